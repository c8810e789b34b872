"""D-FINE, with layers cut down, trains from random weights like every other model."""

import pytest
import quick_runs
import torch
from quick_runs import Split
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows

from known_models import SMALL_DFINE
from setmatch.config import load_recipe
from setmatch.models.load import load
from setmatch.structures.metadata import Categories
from setmatch.training.train import train

ARGUMENTS = {
    name: list(value) if isinstance(value, tuple) else value for name, value in SMALL_DFINE.items()
}
RECIPE = {
    **quick_runs.RECIPE,
    "model": {"preset": "dfine_s", "arguments": ARGUMENTS},
    "train": {
        **quick_runs.RECIPE["train"],
        "muon_lr": 0.0,
        "epochs": 30,
        "batch_size": 8,
        "micro_batch": 4,
        "evaluate_every": 30,
        "log_every": 1,
        "checkpoint_every": 2,
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
    return quick_runs.write(tmp_path_factory.mktemp("data"), train=Split(8), val=Split(2))


def test_thirty_steps_from_random_weights_lower_the_loss(data, tmp_path):
    run = _train(data, tmp_path / "run", "train.checkpoint_every=30")
    rows = [row for row in log_rows(tmp_path / "run") if row["kind"] == "train"]
    assert len(rows) == 30
    first, last = (sum(row["loss"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last < 0.9 * first
    terms = {"class", "l1", "giou", "edges", "distillation", "denoising/edges", "start/l1"}
    assert terms <= rows[0].keys()
    again = load(tmp_path / "run")
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_a_resumed_run_ends_bit_equal(data, tmp_path, monkeypatch):
    _train(data, tmp_path / "whole", "train.epochs=4")
    with monkeypatch.context() as patch:
        crash_before(3, patch)
        with pytest.raises(CrashError):
            _train(data, tmp_path / "run", "train.epochs=4")
    _train(data, tmp_path / "run", "train.epochs=4", resume=True)
    assert_bit_equal(tmp_path / "run", tmp_path / "whole")


def test_the_training_of_deim_lowers_the_loss_and_needs_no_other_weights(data, tmp_path):
    """More targets in an image, and another classification loss; the tensors are the same.

    The sizes of the model are lists in a recipe and tuples on a card.
    """
    plain = _train(data, tmp_path / "plain", "train.epochs=1")
    mixed = ("data.mosaic=1", "data.mixup=1", "data.combine_until=1")
    deim = ("model.arguments.class_loss=matchability", *mixed)
    weights = str(tmp_path / "plain")
    run = train(
        data,
        out=tmp_path / "run",
        weights=weights,
        recipe=RECIPE,
        overrides=(*deim, "train.epochs=8", "train.checkpoint_every=30"),
        device="cpu",
    )
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()
    assert run.model.card.arguments["class_loss"] == "matchability"
    losses = [row["loss"] for row in log_rows(tmp_path / "run") if row["kind"] == "train"]
    assert sum(losses[-2:]) < sum(losses[:2])


@pytest.mark.parametrize("size", "nsmlx")
def test_the_recipes_of_deim_train_the_model_of_dfine(size):
    recipe, plain = load_recipe(f"deim_dfine_{size}"), load_recipe(f"dfine_{size}")
    assert recipe.model.preset == recipe.model.init_weights == f"dfine_{size}"
    assert recipe.model.arguments == {"class_loss": "matchability"}
    assert recipe.data.mosaic == recipe.data.mixup == 0.5
    assert recipe.train == plain.train


def test_fine_tuning_keeps_the_classes_known_by_name_and_the_normalization(data, tmp_path):
    run = _train(data, tmp_path / "run", "train.epochs=1")
    other = load(tmp_path / "run", categories=Categories((5, 6), ("new", "green")))
    for ours, theirs in zip(other.decoder.class_heads, run.model.decoder.class_heads, strict=True):
        assert torch.equal(ours.weight[1], theirs.weight[1])
    assert other.card.preprocessing.mean == run.model.card.preprocessing.mean
