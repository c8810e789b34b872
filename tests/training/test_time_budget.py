"""Time-based training: the budget is kept, also if the run is interrupted."""

import pytest
import torch
from fixed_clock import FixedStepClock, sides_seen
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows, run_tiny, write_data

from setmatch.config import TrainSettings
from setmatch.training.logging.clock import Clock
from setmatch.training.logging.run_logger import RunLogger
from setmatch.training.loop import trainer as loop
from setmatch.training.schedule.schedule import make_schedule
from setmatch.training.signals import Stopped
from setmatch.training.start import start_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("clock"), splits=("train", "val"))


@pytest.fixture
def fixed_clock(monkeypatch):
    """Let every step take a quarter of a second, however fast the machine is."""
    monkeypatch.setattr(start_run, "Clock", FixedStepClock)


def test_a_time_based_run_ends_in_time_with_an_evaluation(data, tmp_path, fixed_clock):
    """It uses its budget, evaluates at the end, and a resume does nothing."""
    run = run_tiny(data, tmp_path / "run", "train.minutes=0.06")
    rows = log_rows(run.folder)
    assert max(row["seconds"] for row in rows if row["kind"] == "train") == 3.5  # of 3.6
    evaluations = [row["step"] for row in rows if row["kind"] == "val"]
    assert rows[-1]["step"] == evaluations[-1] == max(row["step"] for row in rows)
    run_tiny(data, tmp_path / "run", "train.minutes=0.06", resume=True)
    assert log_rows(run.folder) == rows


def test_log_rows_have_the_seconds_of_training(data, tmp_path, fixed_clock):
    """Rows of steps and evaluations have the training time before them, in order."""
    rows = log_rows(run_tiny(data, tmp_path / "run", "train.minutes=0.02").folder)
    seconds = [row["seconds"] for row in rows if row["kind"] in ("train", "val")]
    assert len(seconds) > 2
    assert seconds == sorted(seconds)
    assert 0 <= seconds[0] < seconds[-1] < 30


def test_a_clock_starts_at_the_time_spent_before(monkeypatch):
    """A resumed run has the rest of its budget, not all of it again."""
    clock = Clock(5.0)
    monkeypatch.setattr("time.monotonic", iter([100.0, 102.5]).__next__)
    assert clock.spent_s == 5.0
    clock.start()
    assert clock.spent_s == 7.5


def test_a_resume_keeps_the_budget(data, tmp_path, monkeypatch, fixed_clock):
    """Time spent before an interruption counts; the learning rate continues from there."""
    add_step, spent = RunLogger.add_step, []

    def interrupted(self, step, spent_s, rates, result):
        add_step(self, step, spent_s, rates, result)
        spent.append(spent_s)
        if spent_s > 2:
            raise Stopped(15, "for the test")

    with monkeypatch.context() as patch:
        patch.setattr(RunLogger, "add_step", interrupted)
        with pytest.raises(Stopped):
            run_tiny(data, tmp_path / "run", "train.minutes=0.06", "train.checkpoint_every=1")
    state = sorted((tmp_path / "run/checkpoints").glob("step_*"))[-1]
    saved_s = torch.load(state / "trainer.pt", weights_only=True)["progress"]["spent_s"]
    assert saved_s == spent[-2]  # the last step was not saved
    run_tiny(data, tmp_path / "run", "train.minutes=0.06", "train.checkpoint_every=1", resume=True)
    seconds = [row["seconds"] for row in log_rows(tmp_path / "run") if row["kind"] == "train"]
    assert seconds == sorted(seconds)  # none before those of the checkpoint
    assert saved_s < seconds[-1] == 3.5


BUDGET = ("train.minutes=0.2", "train.ema_decay=0.9", "train.checkpoint_every=3")


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """A run of 47 steps: its twelve seconds are over before the 48th."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start_run, "Clock", FixedStepClock)
        return run_tiny(data, tmp_path_factory.mktemp("whole") / "run", *BUDGET).folder


def assert_same_run(run, other):
    """Compare the newest checkpoints, the logs and the best weights, except for times."""
    assert_bit_equal(run, other)
    rows, theirs = ([{**row, "images_per_s": 0} for row in log_rows(r)] for r in (run, other))
    assert rows == theirs
    best = "best/model.safetensors"
    assert (run / best).read_bytes() == (other / best).read_bytes()


@pytest.mark.thorough
@pytest.mark.parametrize("step", [7, 36])
def test_a_resumed_time_based_run_equals_an_uninterrupted_one(
    data, uninterrupted, tmp_path, monkeypatch, step
):
    """Weights, moments, EMA, losses, evaluations and best weights; times are not compared."""
    monkeypatch.setattr(start_run, "Clock", FixedStepClock)
    with monkeypatch.context() as patch:
        crash_before(step, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", *BUDGET)
    run_tiny(data, tmp_path / "run", *BUDGET, resume=True)
    assert_same_run(tmp_path / "run", uninterrupted)
    rows = log_rows(uninterrupted)
    # The first evaluation takes as long as a step, so the next is due after 8.3 seconds.
    assert [row["step"] for row in rows if row["kind"] == "val"] == [5, 34, 47]


@pytest.mark.parametrize(("val_images", "is_due"), [(0, True), (60, True), (61, False)])
def test_the_first_evaluation_gets_at_most_a_tenth_of_the_time(val_images, is_due):
    """Ten of a hundred seconds for 60 images: as long as for the 60 that were trained on."""
    plan = make_schedule(1000, TrainSettings(minutes=100 / 60, batch_size=4), val_images)
    assert plan.evaluation_due(14, before_s=9.5, after_s=10.0) == is_due
    # A checkpoint is written anyway: no evaluation starts without one.
    assert plan.checkpoint_due(14, before_s=9.5, after_s=10.0)


@pytest.mark.thorough
def test_no_step_starts_when_the_time_is_over(uninterrupted):
    """Even if an evaluation or a slow disk took the remaining time."""
    rows = log_rows(uninterrupted)
    assert max(row["seconds"] for row in rows if row["kind"] == "train") == 11.75


def test_a_run_without_time_still_takes_one_step(data, tmp_path, monkeypatch):
    """Otherwise there would be no weights to save."""
    monkeypatch.setattr(start_run, "Clock", FixedStepClock)
    run = run_tiny(data, tmp_path / "run", "train.minutes=0.001").folder
    assert log_rows(run)[-1]["step"] == 1
    run_tiny(data, tmp_path / "run", "train.minutes=0.001", resume=True)
    assert log_rows(run)[-1]["step"] == 1


FAMILY = (
    "model.preset=setmatch_n",
    "model.arguments={dim: 32, heads: 2, ffn_dim: 32, num_queries: 6}",
    *("data.short_side_px=256", "data.long_side_px=256", "train.micro_batch=4"),
    *("data.augment=small", "data.strong_augment_from_epoch=1"),
    *("train.minutes=0.033", "train.checkpoint_every=1", "train.schedule=cosine"),
    *(
        "train.muon_lr=0.01",
        "train.full_size_at=0.6",
        "train.weight_decay=0.1",
        "train.ema_decay=0.9",
    ),
)


@pytest.mark.thorough
def test_a_resumed_time_based_setmatch_run_equals_an_uninterrupted_one(data, tmp_path, monkeypatch):
    """Denoising, Muon's moments, growing images and the ramp of the EMA continue.

    Seven steps; the crash is before the third: images grow, and none is augmented yet.
    """
    monkeypatch.setattr(start_run, "Clock", FixedStepClock)
    sides = sides_seen(monkeypatch)
    whole = run_tiny(data, tmp_path / "whole", *FAMILY).folder
    assert sides == [256, 192, 224, 224, 256, 256, 256]
    with monkeypatch.context() as patch:
        crash_before(2, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", *FAMILY)
    run_tiny(data, tmp_path / "run", *FAMILY, resume=True)
    assert_same_run(tmp_path / "run", whole)
    assert log_rows(whole)[-1]["step"] == 7


@pytest.mark.parametrize(("length", "threads"), [("train.minutes=0.02", 1), ("train.epochs=1", 2)])
def test_only_a_time_based_run_chooses_its_number_of_threads(
    data, tmp_path, monkeypatch, fixed_clock, length, threads
):
    """A run of epochs keeps torch's number, so it is repeatable bit for bit."""
    used, add_step = set(), RunLogger.add_step

    def recording(self, *arguments):
        used.add(torch.get_num_threads())
        add_step(self, *arguments)

    monkeypatch.setattr(RunLogger, "add_step", recording)
    monkeypatch.setattr(loop, "fastest_num_threads", lambda most: 1)
    torch.set_num_threads(2)
    try:
        run_tiny(data, tmp_path / "run", length)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert used == {threads}
