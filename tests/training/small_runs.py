"""Published models with layers cut down: what holds for the runs of each."""

import pytest
import quick_runs
import torch
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows

import setmatch
from setmatch.cli import main
from setmatch.models.load import load
from setmatch.training.train import train


def recipe_of(preset, arguments, **settings):
    """Thirty epochs on four images; `settings` are others of the section `train`."""
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in arguments.items()}
    return {
        **quick_runs.RECIPE,
        "model": {"preset": preset, "arguments": plain},
        "train": {
            **quick_runs.RECIPE["train"],
            "muon_lr": 0.0,
            "epochs": 30,
            "batch_size": 4,
            "micro_batch": 4,
            "evaluate_every": 30,
            "log_every": 1,
            "checkpoint_every": 30,
            **settings,
        },
    }


def run_small(data, out, recipe, *overrides, weights="none", resume=False):
    return train(
        data,
        out=out,
        weights=weights,
        recipe=recipe,
        overrides=overrides,
        resume=resume,
        device="cpu",
    )


def assert_thirty_steps_lowered_the_loss(run, terms):
    """The log has every one of `terms`; the run folder has the same weights."""
    rows = [row for row in log_rows(run.folder) if row["kind"] == "train"]
    assert len(rows) == 30
    first, last = (sum(row["loss"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last < 0.9 * first
    assert terms <= rows[0].keys()
    again = load(run.folder)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def assert_resumed_is_bit_equal(data, folder, recipe, epochs=3):
    """Whole and interrupted before the last epoch, of a step each."""
    budget = (f"train.epochs={epochs}", "train.checkpoint_every=1")
    run_small(data, folder / "whole", recipe, *budget)
    with pytest.MonkeyPatch.context() as patch:
        crash_before(epochs - 1, patch)
        with pytest.raises(CrashError):
            run_small(data, folder / "run", recipe, *budget)
    run_small(data, folder / "run", recipe, *budget, resume=True)
    assert_bit_equal(folder / "run", folder / "whole")


def trace_after_commands(run, data, out):
    """Evaluate, predict and explain a run by the commands a user types; return its attention."""
    (image, *_) = sorted((data / "images").glob("*val*"))
    commands = (
        ("evaluate", run.folder, data, "--split", "val"),
        ("predict", image, "--model", run.folder, "--out", out / "found"),
        ("explain", image, "--model", run.folder, "--out", out / "why.html"),
        ("queries", run.folder, data, "--split", "val", "--out", out / "queries"),
    )
    for command in commands:
        assert main([*map(str, command)]) == 0
    return setmatch.explain(run.model, image).trace
