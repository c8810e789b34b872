"""DEIMv2, with layers cut down, trains and is used like every other model."""

import pytest
import quick_runs
from quick_runs import Split
from small_runs import (
    assert_thirty_steps_lowered_the_loss,
    recipe_of,
    run_small,
    trace_after_commands,
)

from known_models import SMALL_DEIMV2
from setmatch.models.deimv2.checkpoint import SIDE_PX
from setmatch.models.deimv2.presets import PRESETS
from setmatch.recipe_text import load_recipe


@pytest.mark.campaign
def test_a_model_trains_and_is_evaluated_predicts_and_is_explained(tmp_path):
    data = quick_runs.write(tmp_path / "data", train=Split(4), val=Split(2))
    trained = run_small(data, tmp_path / "run", recipe_of("deimv2_pico", SMALL_DEIMV2))
    assert_thirty_steps_lowered_the_loss(trained, {"class", "l1", "encoder/giou", "start/l1"})
    trace = trace_after_commands(trained, data, tmp_path)
    assert trace.cross_attention.places.shape == (2, 4, 20, 6, 2)  # 4 and 2 points
    assert not len(trace.encoder)  # a lite encoder has no attention


@pytest.mark.parametrize("name", PRESETS)
def test_recipes_start_from_published_weights_and_go_up_to_their_size(name: str):
    recipe = load_recipe(name)
    assert recipe.model.init_weights == name
    assert max(recipe.data.auto_sides_px) == SIDE_PX[name]
    trains_edges = name == "deimv2_n"  # as published
    assert bool(recipe.loss.edges) == bool(recipe.loss.distillation) == trains_edges
