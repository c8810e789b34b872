"""RF-DETR, with layers cut down, trains and is used like every other model."""

import pytest
import quick_runs
import torch
from quick_runs import Split
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows

import setmatch
from known_models import SMALL_RFDETR
from setmatch.cli import main
from setmatch.config import load_recipe
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.models.family import default_shape
from setmatch.models.load import load
from setmatch.models.registry import build
from setmatch.models.rfdetr.checkpoint import SIDE_PX
from setmatch.models.rfdetr.presets import PRESETS
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.training.optim.optimizer import build_optimizer, learning_rates
from setmatch.training.train import train

ARGUMENTS = {
    name: list(value) if isinstance(value, tuple) else value for name, value in SMALL_RFDETR.items()
}
RECIPE = {
    **quick_runs.RECIPE,
    "model": {"preset": "rfdetr_n", "arguments": ARGUMENTS},
    "train": {
        **quick_runs.RECIPE["train"],
        "muon_lr": 0.0,
        "epochs": 30,
        "batch_size": 4,
        "micro_batch": 2,
        "evaluate_every": 30,
        "log_every": 1,
        "checkpoint_every": 30,
    },
}


def _train(data, out, *overrides, resume=False):
    return train(
        data,
        out=out,
        weights="none",
        recipe=RECIPE,
        overrides=overrides,
        resume=resume,
        device="cpu",
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return quick_runs.write(tmp_path_factory.mktemp("data"), train=Split(4), val=Split(2))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return _train(data, tmp_path_factory.mktemp("runs") / "run")


def test_thirty_steps_from_random_weights_lower_the_loss(trained):
    rows = [row for row in log_rows(trained.folder) if row["kind"] == "train"]
    assert len(rows) == 30
    first, last = (sum(row["loss"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last < 0.9 * first
    assert {"class", "l1", "giou", "encoder/l1", "encoder/giou"} <= rows[0].keys()
    again = load(trained.folder)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_a_resumed_run_ends_bit_equal(data, tmp_path, monkeypatch):
    budget = ("train.epochs=3", "train.checkpoint_every=1")
    _train(data, tmp_path / "whole", *budget)
    with monkeypatch.context() as patch:
        crash_before(2, patch)
        with pytest.raises(CrashError):
            _train(data, tmp_path / "run", *budget)
    _train(data, tmp_path / "run", *budget, resume=True)
    assert_bit_equal(tmp_path / "run", tmp_path / "whole")


def test_a_run_is_evaluated_predicts_and_is_explained(trained, data, tmp_path):
    """By the commands that a user types."""
    (image, *_) = sorted((data / "images").glob("*val*"))
    commands = (
        ("evaluate", trained.folder, data, "--split", "val"),
        ("predict", image, "--model", trained.folder, "--out", tmp_path / "found"),
        ("explain", image, "--model", trained.folder, "--out", tmp_path / "why.html"),
        ("queries", trained.folder, data, "--split", "val", "--out", tmp_path / "queries"),
    )
    for command in commands:
        assert main([*map(str, command)]) == 0
    trace = setmatch.explain(trained.model, image).trace
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
        **RECIPE,
        "model": {"preset": "rfdetr_seg_n", "arguments": {**ARGUMENTS, "mask_ffn_dim": 24}},
        "data": {**RECIPE["data"], "things_only": True},
        "loss": {"mask": 5, "dice": 5},
    }
    train(data, out=run, weights="none", recipe=recipe, overrides=("train.epochs=8",), device="cpu")
    rows = [row for row in log_rows(run) if row["kind"] == "train"]
    assert 0 < rows[-1]["dice"] < rows[0]["dice"]
    assert rows[-1]["mask"] > 0
    (image, *_) = sorted(data.rglob("*val*/*.*g"))
    found = setmatch.predict(load(run), image, threshold=0.0)
    assert found.masks is not None
    assert main(["evaluate", str(run), str(data), "--split", "val"]) == 0
