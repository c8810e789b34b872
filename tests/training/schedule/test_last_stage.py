"""The last stage starts from the best state of the first one, as D-FINE's code has it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows, run_tiny, write_data

from setmatch.config import TrainSettings
from setmatch.evaluation.results import Report
from setmatch.training.loop.trainer import Trainer
from setmatch.training.schedule.last_stage import LastStage, last_stage_of
from setmatch.training.schedule.schedule import make_schedule
from setmatch.training.step import TrainStep

# Ten images and batches of four: evaluations after 3, 5, 8, 10 and 13 steps.
SETTINGS = ("train.epochs=5", "train.return_to_best_at=0.4")
SCORES = {3: 0.4, 5: 0.3, 8: 0.5, 10: 0.2, 13: 0.1}
RETURNS = [5, 10]  # to the state after 3 steps; the evaluation after a return has none to beat


def _published(aps: list[int], stop: int) -> list[tuple[int, int]]:
    """Return before which epoch D-FINE's solver loads the state after which epoch."""
    best, best_epoch, saved, loads = -1, -1, -1, []
    for epoch, ap in enumerate(aps):
        if epoch == stop:
            loads.append((epoch, saved))
        if ap > best:
            best, best_epoch = ap, epoch
        if best_epoch == epoch and epoch < stop:
            saved = epoch
        if best_epoch != epoch and epoch >= stop:
            best = -1
            loads.append((epoch + 1, saved))
    return loads


@given(
    before=st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True),
    after=st.lists(st.integers(0, 30), min_size=1, max_size=12),
)
def test_it_returns_when_the_published_code_does(before: list[int], after: list[int]):
    """One step an epoch. Of equal evaluations, ours takes the newest and theirs the oldest."""
    aps, stop = [*before, *after], len(before)
    stage, found = LastStage(stop), []
    for epoch in range(len(aps) + 1):
        if stage.returns_before(epoch):
            found.append((epoch, stage.best_step - 1))
        if epoch < len(aps):
            stage = stage.add(epoch + 1, float(aps[epoch]))
    assert found == _published(aps, stop)


@pytest.mark.parametrize(("at", "start"), [(0.0, 0), (0.5, 10), (0.45, 10), (0.9, 20), (1.0, None)])
def test_it_starts_with_the_first_step_of_its_first_epoch(at: float, start: int | None):
    settings = TrainSettings(epochs=8, batch_size=4, return_to_best_at=at)
    assert make_schedule(10, settings).last_stage_start == start
    timed = settings.model_copy(update={"minutes": 1.0})
    assert make_schedule(10, timed).last_stage_start is None


def test_a_log_without_objects_has_no_score():
    plan = make_schedule(10, TrainSettings(epochs=8, batch_size=4, return_to_best_at=0.5))
    rows = [{"kind": "val", "step": 3, "AP": None}, {"kind": "train", "step": 5, "AP": 1.0}]
    assert last_stage_of(plan, rows) == LastStage(10, {3: -1.0})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("scenes"), splits=("train", "val"))


@pytest.fixture(scope="module", autouse=True)
def scored():
    """Evaluations have these scores, by their steps, in place of the measured ones."""
    evaluate, to_json, now = Trainer.evaluate, Report.to_json, []

    def evaluate_at(self, steps):
        now.append(steps)
        evaluate(self, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "evaluate", evaluate_at)
        patch.setattr(Report, "to_json", lambda self: to_json(self) | {"AP": SCORES[now[-1]]})
        yield


def _state(train_step):
    """Return copies of all weights, averages, moments and counts, by name."""
    moments = train_step.optimizer.state_dict(train_step.detector)["SkippingAdamW"]
    parts = {
        "model": train_step.detector.state_dict(),
        "average": train_step.ema.model.state_dict() | {"updates": train_step.ema.updates},
        **{f"moments of {name}": values for name, values in moments.items()},
    }
    return {
        f"{part}: {name}": value.clone()
        for part, values in parts.items()
        for name, value in values.items()
    }


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    """An uninterrupted run, and the state before each of its steps."""
    step, states = TrainStep.step, []

    def recorded(self, *arguments):
        states.append(_state(self))
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "step", recorded)
        run = run_tiny(scenes, tmp_path_factory.mktemp("whole") / "run", *SETTINGS)
    return run.folder, states


def test_weights_averages_and_moments_return(whole):
    """At no other step are they as they were. The best checkpoint outlives the newest two."""
    run, states = whole
    names = sorted(each.name for each in (run / "checkpoints").iterdir())
    assert names == [f"step_{steps:08d}" for steps in (3, 12, 13)]
    assert len(states) == 13
    then = states[3]
    same = [all(torch.equal(now[name], then[name]) for name in now) for now in states]
    assert [at for at, is_same in enumerate(same) if is_same] == [3, *RETURNS]


@pytest.mark.thorough
@pytest.mark.parametrize("step", [4, 5, 6, 9, 10, 11])
def test_a_crash_around_a_return_changes_nothing(scenes, whole, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch:
        crash_before(step, patch)
        with pytest.raises(CrashError):
            run_tiny(scenes, tmp_path / "run", *SETTINGS)
    run = run_tiny(scenes, tmp_path / "run", *SETTINGS, resume=True).folder
    assert_bit_equal(run, whole[0])
    names = [{each.name for each in (run / "checkpoints").iterdir()} for run in (run, whole[0])]
    assert names[0] == names[1]


def test_a_damaged_best_state_is_named_and_the_run_goes_on(scenes, tmp_path, monkeypatch):
    run, return_to_best = tmp_path / "run", Trainer.return_to_best

    def damaged(self, step):
        path = run / "checkpoints/step_00000003/trainer.pt"
        path.write_bytes(path.read_bytes()[:-1])
        return_to_best(self, step)

    monkeypatch.setattr(Trainer, "return_to_best", damaged)
    with pytest.warns(UserWarning, match=r"damaged checkpoint is not used: .*step_00000003"):
        run_tiny(scenes, run, *SETTINGS, "train.epochs=3")
    assert log_rows(run)[-1]["step"] == 8


def test_without_evaluations_the_run_goes_on(scenes, tmp_path, capsys):
    settings = ("train.epochs=2", "train.evaluate_every=2")
    run = run_tiny(scenes, tmp_path / "run", *settings, "train.return_to_best_at=0.5").folder
    assert "warning: step 4 finds no best state to go on from" in capsys.readouterr().err
    assert_bit_equal(run, run_tiny(scenes, tmp_path / "straight", *settings).folder)
