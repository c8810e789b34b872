"""Early stopping: when evaluations find no better weights, exactly as without an interruption."""

import json

import pytest
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows, run_tiny, write_data

from setmatch.errors import ConfigError
from setmatch.training.logging.run_logger import RunLogger
from setmatch.training.loop import evaluations
from setmatch.training.schedule.plateau import Plateau

LONG = ("train.epochs=12", "train.patience=2")


@pytest.fixture
def scores(monkeypatch):
    """The AP of each evaluation, by its step, in place of the measured one."""
    by_step: dict[int, float] = {}
    keep = evaluations.keep_if_best

    def keep_scored(folder, detector, metrics, steps):
        return keep(folder, detector, {**metrics, "AP": by_step.get(steps, 0.0)}, steps)

    write = RunLogger.write_evaluation

    def write_scored(self, steps, metrics, probe_metrics):
        write(self, steps, {**metrics, "AP": by_step.get(steps, 0.0)}, probe_metrics)

    monkeypatch.setattr(evaluations, "keep_if_best", keep_scored)
    monkeypatch.setattr(RunLogger, "write_evaluation", write_scored)
    return by_step


def _evaluated(run):
    return [row["step"] for row in log_rows(run) if row["kind"] == "val"]


@pytest.mark.parametrize(
    ("evaluated", "best", "is_reached"),
    [
        ((), -1, False),
        ((2, 4, 6), 2, True),
        ((2, 4, 6), 4, False),
        ((2, 4, 6, 8), 4, True),
        ((2, 4), 6, False),  # the log was lost, the best weights were not
        ((2, 4), -1, True),
    ],
)
def test_a_plateau_is_patience_evaluations_after_the_best(evaluated, best, is_reached):
    assert Plateau(2, evaluated, best).is_reached is is_reached
    assert not Plateau(0, evaluated, best).is_reached


def test_a_run_ends_early_and_says_so(tmp_path, tiny_presets, scores, capsys):
    """Ten images and batches of four: evaluations after 3, 5, 8, 10, 13, ... steps."""
    data = write_data(tmp_path / "data", splits=("train", "val"))
    scores |= {3: 0.1, 5: 0.3, 8: 0.2, 10: 0.25, 13: 0.9}
    run = run_tiny(data, tmp_path / "run", *LONG)
    assert _evaluated(run.folder) == [3, 5, 8, 10]
    assert run.best["step"] == 5
    assert (
        "none of the last 2 evaluations was as good as that after step 5" in capsys.readouterr().err
    )
    again = run_tiny(data, tmp_path / "run", *LONG, resume=True)
    assert _evaluated(again.folder) == [3, 5, 8, 10]
    assert "nothing left to train" in capsys.readouterr().err


def test_scores_that_stay_equal_are_no_plateau(tmp_path, tiny_presets, scores):
    """A model that has not learned anything yet has an AP of 0."""
    data = write_data(tmp_path / "data", splits=("train", "val"))
    run = run_tiny(data, tmp_path / "run", "train.epochs=4", "train.patience=2")
    assert len(_evaluated(run.folder)) == 4


@pytest.mark.thorough
def test_an_interrupted_run_ends_at_the_same_step(tmp_path, tiny_presets, scores):
    """Between the two evaluations that end it."""
    data = write_data(tmp_path / "data", splits=("train", "val"))
    scores |= {3: 0.1, 5: 0.3, 8: 0.2, 10: 0.25, 13: 0.9}
    whole = run_tiny(data, tmp_path / "whole", *LONG)
    with pytest.MonkeyPatch.context() as patch:
        crash_before(9, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", *LONG)
    run = run_tiny(data, tmp_path / "run", *LONG, resume=True)
    assert_bit_equal(run.folder, whole.folder)
    assert _evaluated(run.folder) == _evaluated(whole.folder)
    best = json.loads((run.folder / "best" / "metrics.json").read_text())
    assert best["step"] == 5


def test_another_patience_is_another_run(tmp_path, tiny_presets):
    data = write_data(tmp_path / "data", splits=("train", "val"))
    run_tiny(data, tmp_path / "run", "train.epochs=1")
    with pytest.raises(ConfigError, match=r"train\.patience was 0 and is 3"):
        run_tiny(data, tmp_path / "run", "train.epochs=1", "train.patience=3", resume=True)
