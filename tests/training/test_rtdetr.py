"""RT-DETR and RT-DETRv2, with layers cut down, train and are used like every other model."""

import pytest
import quick_runs
import torch
from quick_runs import Split
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows

import setmatch
from known_models import SMALL_RTDETR
from setmatch.cli import main
from setmatch.models.load import load
from setmatch.structures.metadata import Categories
from setmatch.training.train import train

RECIPE = {
    **quick_runs.RECIPE,
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
BOTTLENECK = {"bottleneck": True, "points": (2, 2, 2, 2), "extra_levels": 1}
NEAREST = {"points": (2, 4, 3), "nearest": True}


def _train(data, out, preset, *overrides, resume=False, **more):
    arguments = {**SMALL_RTDETR, **more}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
    return train(
        data,
        out=out,
        weights="none",
        recipe={**RECIPE, "model": {"preset": preset, "arguments": plain}},
        overrides=overrides,
        resume=resume,
        device="cpu",
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return quick_runs.write(tmp_path_factory.mktemp("data"), train=Split(4), val=Split(2))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return _train(data, tmp_path_factory.mktemp("runs") / "run", "rtdetr_r18")


def test_thirty_steps_from_random_weights_lower_the_loss(trained):
    rows = [row for row in log_rows(trained.folder) if row["kind"] == "train"]
    assert len(rows) == 30
    first, last = (sum(row["loss"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last < 0.9 * first
    assert {"class", "l1", "giou", "denoising/l1", "encoder/giou"} <= rows[0].keys()
    again = load(trained.folder)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@pytest.mark.parametrize(
    ("preset", "more"), [("rtdetr_r50", BOTTLENECK), ("rtdetr_v2_r18", NEAREST)]
)
def test_a_resumed_run_ends_bit_equal(preset: str, more: dict, data, tmp_path, monkeypatch):
    budget = ("train.epochs=3", "train.checkpoint_every=1")
    _train(data, tmp_path / "whole", preset, *budget, **more)
    with monkeypatch.context() as patch:
        crash_before(2, patch)
        with pytest.raises(CrashError):
            _train(data, tmp_path / "run", preset, *budget, **more)
    _train(data, tmp_path / "run", preset, *budget, resume=True, **more)
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
    assert trace.cross_attention.places.shape == (2, 4, 20, 12, 2)  # 4 points on each of 3 levels


def test_fine_tuning_keeps_the_classes_known_by_name(trained):
    other = load(trained.folder, categories=Categories((5, 6), ("new", "green")))
    heads = zip(other.decoder.class_heads, trained.model.decoder.class_heads, strict=True)
    for ours, theirs in heads:
        assert torch.equal(ours.weight[1], theirs.weight[1])
    noise = other.denoising.embedding.weight, trained.model.denoising.embedding.weight
    assert torch.equal(noise[0][1], noise[1][1])
