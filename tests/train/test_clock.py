"""Training by the clock: the budget is kept, over interruptions too."""

import time

import pytest
import torch

from setmatch.train.journal import Journal
from setmatch.train.signals import Stopped

from .tiny import log_rows, run_tiny, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("clock"), splits=("train", "val"))


def test_a_run_by_the_clock_ends_in_time_with_an_evaluation(data, tmp_path):
    """It takes what time it was given, evaluates at the end, and leaves nothing to resume."""
    started = time.monotonic()
    run = run_tiny(data, tmp_path / "run", "train.minutes=0.06")
    assert 3.6 <= time.monotonic() - started < 30
    rows = log_rows(run.folder)
    evaluations = [row["step"] for row in rows if row["kind"] == "val"]
    assert rows[-1]["step"] == evaluations[-1] == max(row["step"] for row in rows)
    run_tiny(data, tmp_path / "run", "train.minutes=0.06", resume=True)
    assert log_rows(run.folder) == rows  # nothing was left to do


def test_a_resume_keeps_the_budget(data, tmp_path, monkeypatch):
    """Time spent before an interruption counts; the learning rate goes on where it was."""
    note, spent = Journal.note, []

    def interrupted(self, step, spent_s, lr_factor, learned):
        note(self, step, spent_s, lr_factor, learned)
        spent.append(spent_s)
        if spent_s > 2:
            raise Stopped(15, "for the test")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "note", interrupted)
        with pytest.raises(Stopped):
            run_tiny(data, tmp_path / "run", "train.minutes=0.06", "train.checkpoint_every=1")
    state = sorted((tmp_path / "run/checkpoints").glob("step_*"))[-1]
    kept = torch.load(state / "trainer.pt", weights_only=True)["progress"]["spent_s"]
    assert kept == spent[-2]  # the last step was not saved
    started = time.monotonic()
    run_tiny(data, tmp_path / "run", "train.minutes=0.06", "train.checkpoint_every=1", resume=True)
    assert time.monotonic() - started < 30
