"""D-FINE, with layers cut down, trains from random weights like every other model."""

import pytest
import quick_runs
import torch
from quick_runs import Split
from small_runs import (
    assert_resumed_is_bit_equal,
    assert_thirty_steps_lowered_the_loss,
    recipe_of,
    run_small,
)
from tiny_runs import log_rows

from known_models import SMALL_DFINE
from setmatch.models.load import load
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Categories

RECIPE = recipe_of("dfine_s", SMALL_DFINE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return quick_runs.write(tmp_path_factory.mktemp("data"), train=Split(4), val=Split(2))


@pytest.mark.thorough  # the runs below take the same steps
def test_thirty_steps_from_random_weights_lower_the_loss(data, tmp_path):
    terms = {"class", "l1", "giou", "edges", "distillation", "denoising/edges", "start/l1"}
    assert_thirty_steps_lowered_the_loss(run_small(data, tmp_path / "run", RECIPE), terms)


@pytest.mark.thorough
def test_a_resumed_run_ends_bit_equal(data, tmp_path):
    assert_resumed_is_bit_equal(data, tmp_path, RECIPE, epochs=4)


@pytest.mark.thorough
def test_the_training_of_deim_lowers_the_loss_and_needs_no_other_weights(data, tmp_path):
    """More targets in an image, and another classification loss; the tensors are the same.

    The sizes of the model are lists in a recipe and tuples on a card.
    """
    plain = run_small(data, tmp_path / "plain", RECIPE, "train.epochs=1")
    mixed = ("data.mosaic=1", "data.mixup=1", "data.combine_until=1")
    deim = ("model.arguments.class_loss=matchability", *mixed)
    weights = str(tmp_path / "plain")
    overrides = (*deim, "train.epochs=30")
    run = run_small(data, tmp_path / "run", RECIPE, *overrides, weights=weights)
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()
    assert run.model.card.arguments["class_loss"] == "matchability"
    losses = [row["loss"] for row in log_rows(tmp_path / "run") if row["kind"] == "train"]
    third = len(losses) // 3  # of few steps: mosaics differ a lot
    assert sum(losses[-third:]) < sum(losses[:third])


@pytest.mark.parametrize("size", "nsmlx")
def test_the_recipes_of_deim_train_the_model_of_dfine(size):
    recipe, plain = load_recipe(f"deim_dfine_{size}"), load_recipe(f"dfine_{size}")
    assert recipe.model.preset == recipe.model.init_weights == f"dfine_{size}"
    assert recipe.model.arguments == {"class_loss": "matchability"}
    assert recipe.data.mosaic == recipe.data.mixup == 0.5
    assert recipe.train == plain.train


@pytest.mark.thorough
def test_fine_tuning_keeps_the_classes_known_by_name_and_the_normalization(data, tmp_path):
    run = run_small(data, tmp_path / "run", RECIPE, "train.epochs=1")
    other = load(tmp_path / "run", categories=Categories((5, 6), ("new", "green")))
    for ours, theirs in zip(other.decoder.class_heads, run.model.decoder.class_heads, strict=True):
        assert torch.equal(ours.weight[1], theirs.weight[1])
    assert other.card.preprocessing.mean == run.model.card.preprocessing.mean
