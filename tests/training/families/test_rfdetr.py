"""RF-DETR, with layers cut down, trains and is used like every other model."""

import pytest
import quick_runs
import torch
from quick_runs import Split
from small_runs import (
    assert_resumed_is_bit_equal,
    assert_thirty_steps_lowered_the_loss,
    recipe_of,
    run_small,
    trace_after_commands,
)
from tiny_runs import log_rows

import setmatch
from known_models import SMALL_RFDETR
from setmatch.cli import main
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.models.family import default_shape
from setmatch.models.load import load
from setmatch.models.registry import build
from setmatch.models.rfdetr.checkpoint import SIDE_PX
from setmatch.models.rfdetr.presets import PRESETS
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.training.optim.optimizer import build_optimizer, learning_rates

pytestmark = pytest.mark.thorough  # D-FINE's training, of the same parts, is tested always
RECIPE = recipe_of("rfdetr_n", SMALL_RFDETR)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return quick_runs.write(tmp_path_factory.mktemp("data"), train=Split(4), val=Split(2))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return run_small(data, tmp_path_factory.mktemp("runs") / "run", RECIPE)


def test_thirty_steps_from_random_weights_lower_the_loss(trained):
    terms = {"class", "l1", "giou", "encoder/l1", "encoder/giou"}
    assert_thirty_steps_lowered_the_loss(trained, terms)


def test_a_resumed_run_ends_bit_equal(data, tmp_path):
    assert_resumed_is_bit_equal(data, tmp_path, RECIPE)


def test_a_run_is_evaluated_predicts_and_is_explained(trained, data, tmp_path):
    trace = trace_after_commands(trained, data, tmp_path)
    assert trace.cross_attention.places.shape == (2, 8, 20, 2, 2)  # 2 points of each of 8 heads
    assert not len(trace.encoder)  # windows are not shown


def test_fine_tuning_keeps_the_classes_known_by_name(trained):
    other = load(trained.folder, categories=Categories((5, 6), ("new", "green")))
    ours, theirs = other.decoder.class_head, trained.model.decoder.class_head
    assert torch.equal(ours.weight[1], theirs.weight[1])


def test_each_block_of_the_backbone_learns_more_slowly_than_the_next():
    model = build(ModelCard("rfdetr_n", SMALL_RFDETR, Categories((0,), ("a",))))
    settings = load_recipe("rfdetr_n", ["train.lr=1", "train.backbone_lr=10"]).train
    optimizer = build_optimizer(model.parameter_groups(), settings, model.rate_factors())
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    backbone, decoder = model.backbone, model.decoder
    expected = {
        backbone.position: 10 * 0.8**4,
        backbone.embed.bias: 10 * 0.8**4,
        **{block.norm_ffn.weight: 10 * 0.8 ** (3 - i) for i, block in enumerate(backbone.blocks)},
        backbone.norm.weight: 10,
        model.encoder.norm.weight: 1,
        model.queries.content: 1,
        decoder.norm.weight: 0.7,
        decoder.layers[0].ffn[0].weight: 0.7,
        decoder.class_head.weight: 1,
        decoder.box_step.step.layers[0].weight: 1,
    }
    for parameter, lr in expected.items():
        assert rate[id(parameter)] == pytest.approx(lr)
    assert sorted(rate) == sorted(id(parameter) for parameter in model.parameters())
    assert learning_rates(optimizer) == {"backbone_lr": 10, "lr": 1}


@pytest.mark.parametrize("name", PRESETS)
def test_recipes_start_from_published_weights_and_go_up_to_their_size(name: str):
    """In whole windows."""
    recipe, shape = load_recipe(name), default_shape(PRESETS[name])
    sides = recipe.data.auto_sides_px
    assert recipe.model.init_weights == name
    assert max(sides) == SIDE_PX.get(name, shape.patch * shape.grid)
    assert {side % (shape.patch * shape.windows) for side in sides} == {0}


def test_a_model_with_masks_trains_them_with_its_boxes(tmp_path):
    """In one stage, with all groups of queries; evaluation and prediction give masks."""
    data, run = tmp_path / "data", tmp_path / "run"
    write_scenes(data, 4, 2, 64, 0, 0, panoptic=True)
    recipe = {
        **recipe_of("rfdetr_seg_n", SMALL_RFDETR | {"mask_ffn_dim": 24}),
        "data": {**RECIPE["data"], "things_only": True},
        "loss": {"mask": 5, "dice": 5},
    }
    run_small(data, run, recipe, "train.epochs=8")
    rows = [row for row in log_rows(run) if row["kind"] == "train"]
    assert 0 < rows[-1]["dice"] < rows[0]["dice"]
    assert rows[-1]["mask"] > 0
    (image, *_) = sorted(data.rglob("*val*/*.*g"))
    found = setmatch.predict(load(run), image, threshold=0.0)
    assert found.masks is not None
    assert main(["evaluate", str(run), str(data), "--split", "val"]) == 0
