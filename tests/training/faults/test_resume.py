"""A run that was interrupted ends bit-equal to an uninterrupted one."""

import os
import signal

import pytest
import tiny_runs
import torch
from tiny_runs import CrashError, assert_bit_equal, crash_before, final_state, log_rows, run_tiny

from setmatch.errors import ConfigError
from setmatch.training.logging.run_logger import RunLogger
from setmatch.training.logging.writers import JsonLines
from setmatch.training.signals import Stopped
from thorough import usually

TEN_STEPS = ("train.epochs=4",)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run of 8 steps."""
    return run_tiny(data, tmp_path_factory.mktemp("whole") / "run").folder


@pytest.mark.promise(5)
@pytest.mark.parametrize("step", usually([0, 2, 4, 7], 0, 4))
def test_a_crash_at_any_step_changes_nothing(data, whole, tmp_path, monkeypatch, step):
    """yolov5 #409: weights, moments, EMA and counters are bit-equal after a resume."""
    with monkeypatch.context() as patch:
        crash_before(step, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run")
    run_tiny(data, tmp_path / "run", resume=True)
    assert_bit_equal(tmp_path / "run", whole)
    timeless = [
        [{**r, "images_per_s": 0, "seconds": 0} for r in log_rows(run)]
        for run in (tmp_path / "run", whole)
    ]
    assert timeless[0] == timeless[1]


@pytest.fixture(scope="module")
def longer(data, tmp_path_factory):
    return run_tiny(data, tmp_path_factory.mktemp("longer") / "run", *TEN_STEPS).folder


@pytest.mark.promise(5)
@pytest.mark.campaign
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", range(10))
def test_a_run_resumes_at_any_of_ten_points(data, longer, tmp_path, monkeypatch, step, workers):
    """Of ten steps; an epoch has two and a half."""
    settings = (*TEN_STEPS, f"data.workers={workers}")
    with monkeypatch.context() as patch:
        crash_before(step, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", *settings)
    run_tiny(data, tmp_path / "run", *settings, resume=True)
    assert_bit_equal(tmp_path / "run", longer)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["val", "watch"])
def test_a_crash_between_an_evaluation_and_its_warning_loses_neither(tmp_path, monkeypatch, kind):
    """Whichever row was written last, the other one follows."""
    data = tiny_runs.write_data(tmp_path / "data", splits=("train", "val"))
    write = JsonLines.write

    def cut(self, row):
        if row["kind"] == kind and row["step"] > 0:
            raise CrashError
        write(self, row)

    run_tiny(data, tmp_path / "whole", "train.epochs=5")
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "write", cut)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", "train.epochs=5")
    run_tiny(data, tmp_path / "run", "train.epochs=5", resume=True)
    rows = [
        [{**row, "images_per_s": 0, "seconds": 0} for row in log_rows(tmp_path / name)]
        for name in ("whole", "run")
    ]
    assert ("watch", 5) in [(row["kind"], row["step"]) for row in rows[0]]
    assert "probe/flips" in rows[0][-1]
    assert rows[0] == rows[1]


@pytest.mark.promise(5)
def test_the_number_of_workers_may_change_on_resume(data, whole, tmp_path, monkeypatch):
    """Started with two workers and resumed with none, the run is bit-equal."""
    with monkeypatch.context() as patch:
        crash_before(4, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", "data.workers=2")
    run_tiny(data, tmp_path / "run", resume=True)
    assert_bit_equal(tmp_path / "run", whole)


@pytest.mark.thorough
@pytest.mark.promise(5)
def test_a_run_on_tiles_resumes_in_mid_epoch(data, whole, tmp_path, monkeypatch):
    """Bit-equal after a crash at step 4, of 2.5 steps an epoch, on another number of workers."""
    run_tiny(data, tmp_path / "tiles", tiles=40)
    with monkeypatch.context() as patch:
        crash_before(4, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", "data.workers=1", tiles=40)
    with pytest.raises(ConfigError, match=r"data\.tiles was 40 and is None"):
        run_tiny(data, tmp_path / "run", resume=True)
    run_tiny(data, tmp_path / "run", resume=True, tiles=40)
    assert_bit_equal(tmp_path / "run", tmp_path / "tiles")
    with pytest.raises(AssertionError):
        assert_bit_equal(whole, tmp_path / "tiles")


def test_another_seed_gives_other_weights(data, whole, tmp_path):
    """So bit equality in the other tests means something."""
    run_tiny(data, tmp_path / "run", "train.seed=43")
    with pytest.raises(AssertionError):
        assert_bit_equal(tmp_path / "run", whole)


def test_a_damaged_newest_checkpoint_costs_only_its_steps(data, whole, tmp_path, monkeypatch):
    """The one before is used; the damaged one is named and renamed; the result is the same."""
    with monkeypatch.context() as patch:
        crash_before(7, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run")
    newest = tmp_path / "run/checkpoints/step_00000006"
    (newest / "trainer.pt").write_bytes((newest / "trainer.pt").read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"step_00000006.trainer\.pt"):
        run_tiny(data, tmp_path / "run", resume=True)
    assert_bit_equal(tmp_path / "run", whole)
    assert (tmp_path / "run/checkpoints/damaged_step_00000006").is_dir()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("after", usually([0, 3], 3))
def test_a_signal_stops_the_run_after_the_step_with_a_checkpoint(
    data, whole, tmp_path, monkeypatch, number, code, after
):
    """A resume ends with the result of an uninterrupted run."""
    note = RunLogger.add_step

    def interrupted(self, step, *rest):
        note(self, step, *rest)
        if step == after:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(RunLogger, "add_step", interrupted)
        with pytest.raises(Stopped, match=f"after step {after + 1}") as stopped:
            run_tiny(data, tmp_path / "run")
    assert stopped.value.exit_code == code
    assert (tmp_path / f"run/checkpoints/step_{after + 1:08d}").is_dir()
    run_tiny(data, tmp_path / "run", resume=True)
    assert_bit_equal(tmp_path / "run", whole)


def test_resuming_a_finished_run_changes_nothing_and_says_so(data, tmp_path, capfd):
    run_tiny(data, tmp_path / "run")
    before = final_state(tmp_path / "run")
    assert "done: " in capfd.readouterr().err
    run_tiny(data, tmp_path / "run", resume=True)
    shown = capfd.readouterr().err
    assert "nothing left to train" in shown
    assert "done: " not in shown
    after = final_state(tmp_path / "run")
    assert all(torch.equal(before[k], after[k]) for k in before if torch.is_tensor(before[k]))


@pytest.mark.parametrize("loaded", [True, False])
def test_a_resumed_run_needs_as_many_steps_as_before(
    data, whole, tmp_path, monkeypatch, capfd, loaded
):
    """Weights that a run started from are still its start, so few steps suffice."""
    settings = ("train.epochs=300", "train.warmup_steps=0", "train.checkpoint_every=1")
    weights, said = whole if loaded else "none", []
    for resume in (False, True):
        with monkeypatch.context() as patch:
            crash_before(1, patch)
            with pytest.raises(CrashError):
                run_tiny(data, tmp_path / "run", *settings, resume=resume, weights=weights)
        said.append("some thousands" in capfd.readouterr().err)
    assert said == [not loaded] * 2
