"""A search finds the best settings, and continues where it was interrupted."""

import json
import math
import signal
import sys

import pytest
import torch
from simulation import near_a_hundredth
from tiny_runs import CrashError, crash_before

from setmatch.errors import (
    ConfigError,
    DataError,
    ExtraMissingError,
    TrainingError,
    UnwritableError,
)
from setmatch.files.folder_lock import locked
from setmatch.recipe_text import load_recipe
from setmatch.training.checkpoints.best import BEST
from setmatch.training.checkpoints.checkpoint import CHECKPOINTS
from setmatch.training.signals import Stopped
from setmatch.training.train import train
from setmatch.tuning.run_trial import Observer
from setmatch.tuning.search import MOST_FAILURES, SearchStopped
from setmatch.tuning.trial import TRIAL, folder_of


def states(search):
    return [trial.state for trial in search.trials]


def plain(search):
    """The trials but for their times and how often they were started."""
    return [(t.number, t.values, t.state, t.steps, t.scores, t.reason) for t in search.trials]


def test_a_search_finds_the_best_rate(search, simulate):
    """The first trial is the recipe as it is."""
    simulate(near_a_hundredth)
    done = search(trials=15)
    assert done.trials[0].values == {"train.lr": 1e-3}
    assert done.best == max(done.over, key=lambda trial: trial.scores)
    assert abs(math.log10(done.best.values["train.lr"]) + 2) < 0.5
    assert load_recipe(done.out / "best.yaml").train.lr == done.best.values["train.lr"]


def test_a_search_trains_real_models(search, data, tmp_path):
    """What was interrupted continues exactly; the best recipe trains as the best trial did."""
    whole = search(trials=2, epochs=2, out=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patched:
        crash_before(3, patched)
        with pytest.raises(CrashError):
            search(trials=2, epochs=2)
    done = search(trials=2, epochs=2)
    assert states(done) == ["complete", "complete"]
    assert plain(done) == plain(whole)
    again = train(data, out=tmp_path / "again", recipe=whole.out / "best.yaml", device="cpu")
    assert again.best["AP"] == whole.best.score
    ours, theirs = (run.model.state_dict() for run in (again, whole.best_run))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_an_evaluation_that_was_not_recorded_is_found_in_the_log(search, data, tmp_path):
    """Killed between the line of the log and the record; the resumed run does not repeat it."""
    settings = {"trials": 1, "epochs": 2, "overrides": ["train.checkpoint_every=1"]}
    whole = search(out=tmp_path / "whole", **settings)
    record = Observer.record

    def killed(self, trial):
        if trial.steps == (1,):
            raise _KilledError
        record(self, trial)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Observer, "record", killed)
        with pytest.raises(_KilledError):
            search(**settings)
    assert plain(search(**settings)) == plain(whole)


class _KilledError(BaseException):
    """No callback survives it, as none survives kill -9."""


def test_weights_of_the_best_trial_alone_are_kept(search, simulate):
    simulate(near_a_hundredth)
    done = search(trials=6)
    with_weights = [t for t in done.trials if (folder_of(done.out, t.number) / BEST).exists()]
    assert with_weights == [done.best]
    assert not list(done.out.rglob(CHECKPOINTS))


def test_a_hopeless_trial_ends_early(search, simulate):
    """Below the median of the complete ones, once there are some; never the best one."""
    simulated = simulate(near_a_hundredth, steps=8)
    done = search(trials=15)
    ended = [trial for trial in done.trials if trial.state == "pruned"]
    assert ended
    assert states(done)[:4] == ["complete"] * 4
    for trial in ended:
        assert 2 < len(trial.steps) < 8
        assert trial.scores[-1] < done.best.scores[len(trial.steps) - 1]
        assert f"at evaluation {len(trial.steps)}" in trial.reason
    assert len(simulated.trained) == sum(len(trial.steps) for trial in done.trials)


def test_a_search_ends_when_all_has_been_tried(search, simulate, capsys):
    simulate(lambda recipe, step: 0.5)
    done = search("data.augment=none,flip", "train.log_every=1:2", trials=9)
    tried = {tuple(trial.values.values()) for trial in done.trials}
    assert tried == {(name, every) for name in ("none", "flip") for every in (1, 2)}
    assert "every combination of the values has been tried" in capsys.readouterr().err


def test_settings_that_share_a_value_change_together(search, simulate):
    simulate(lambda recipe, step: recipe.data.short_side_px / recipe.data.long_side_px)
    done = search("data.short_side_px+data.long_side_px=64,96", trials=2)
    assert [trial.score for trial in done.trials] == [1, 1]


def test_more_trials_can_be_added(search, simulate, tmp_path):
    """As if they had been asked for at once; finished trials are not trained again."""
    simulate(near_a_hundredth)
    first = search(trials=2)
    more = search(trials=6)
    assert more.trials[:2] == first.trials
    assert plain(more) == plain(search(trials=6, out=tmp_path / "at_once"))
    assert search(trials=2).trials == more.trials


@pytest.mark.parametrize(("trial", "step"), [(1, 1), (2, 4), (5, 2), (5, 3), (6, 1)])
def test_an_interrupted_search_finds_the_same(search, simulate, tmp_path, trial, step):
    """The trial continues from its checkpoint, also after several kills; others are kept."""

    def kill(name, recipe, at):
        if kills and (int(name), at) == (trial, step):
            kills.pop()
            raise CrashError

    kills = []
    simulate(near_a_hundredth, before=kill)
    whole = search(trials=6, out=tmp_path / "whole")
    kills = [1, 1]
    for _ in (1, 1):
        with pytest.raises(CrashError):
            search(trials=6)
    assert plain(search(trials=6)) == plain(whole)


def test_a_trial_that_always_dies_is_counted_failed(search, simulate, capsys):
    """As one that the system ends because memory runs out; the search continues without it."""

    def die(name, recipe, step):
        if (name, step) == ("002", 3):
            raise CrashError

    simulate(near_a_hundredth, before=die)
    for _ in range(4):  # the first one took two steps
        with pytest.raises(CrashError):
            search()
    done = search()
    assert states(done) == ["complete", "failed", "complete"]
    assert "ended 3 times after step 2 without a message" in done.trials[1].reason


FAULTS = [
    TrainingError("out of memory with 2 images at once: use smaller images"),
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("shapes differ"),
    MemoryError(),
    ConfigError("data.short_side_px = 65: not a multiple of 32"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_trial_that_fails_is_kept_with_its_reason(search, simulate, fault):
    """The search continues, and knows that such values are bad."""

    def fail(name, recipe, step):
        if name in ("002", "004"):
            raise fault

    simulate(near_a_hundredth, before=fail)
    done = search(trials=8)
    assert [trial.number for trial in done.trials if trial.state == "failed"] == [2, 4]
    assert all(str(fault) in done.trials[number].reason for number in (1, 3))
    assert done.trials[1].reason
    assert search(trials=8).trials == done.trials


def test_a_search_whose_trials_all_fail_ends(search, simulate):
    def fail(name, recipe, step):
        raise TrainingError("no loss is finite")

    simulate(near_a_hundredth, before=fail)
    with pytest.raises(TrainingError, match=f"last {MOST_FAILURES} trials failed.*no loss is fin"):
        search(trials=20)
    simulate(near_a_hundredth)
    done = search(trials=6)
    assert states(done) == ["failed"] * MOST_FAILURES + ["complete"]


FOR_ALL = [
    (DataError("images/1.png: no such file"), "no such file"),
    (OSError(28, "No space left on device"), "No space left"),
    (UnwritableError("checkpoints: cannot be written (unexpected pos 5)"), "unexpected pos 5"),
]


@pytest.mark.parametrize(("fault", "message"), FOR_ALL, ids=["data", "disk", "torch"])
def test_what_concerns_every_trial_ends_the_search(search, simulate, fault, message):
    """Finished trials are kept, and the one that was being trained continues the next time."""

    def fail(name, recipe, step):
        if (name, step) == ("002", 2):
            if isinstance(fault, OSError):
                raise TrainingError("log.jsonl: cannot be written (No space left)") from fault
            raise fault

    simulate(near_a_hundredth, before=fail)
    with pytest.raises((DataError, TrainingError), match=message):
        search()
    simulated = simulate(near_a_hundredth)
    assert states(search()) == ["complete"] * 3
    assert simulated.trained[0] == ("002", 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done(search, simulate, number):
    """The exit code is that of a run; however often it comes, no trial fails by it."""

    def stop(name, recipe, step):
        if (name, step) == ("002", 2):
            raise Stopped(number, "after step 1")

    simulate(near_a_hundredth, before=stop)
    for _ in range(4):
        with pytest.raises(SearchStopped, match="stopped in trial 2; all trials are kept") as error:
            search()
    assert error.value.exit_code == 128 + number
    simulate(near_a_hundredth)
    assert states(search()) == ["complete"] * 3


def test_a_search_keeps_to_its_minutes(search, simulate, monkeypatch):
    """The trial that is being trained is left at its next evaluation, and continues later."""
    now_s = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])

    def pass_time(name, recipe, step):
        now_s[0] += 10

    simulated = simulate(near_a_hundredth, before=pass_time)
    done = search(minutes=1, trials=9)
    assert simulated.trained[-1] == ("002", 2)
    assert states(done) == ["complete", "running"]
    assert states(search(trials=2)) == ["complete", "complete"]
    assert simulated.trained[6:] == [("002", 3), ("002", 4)]
    assert [trial.seconds for trial in search(trials=2).trials] == [40, 40]


def test_a_trial_that_is_complete_when_the_time_is_over_is_complete(search, simulate, monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])

    def pass_time(name, recipe, step):
        now_s[0] += 15

    simulate(near_a_hundredth, before=pass_time)
    assert states(search(minutes=1)) == ["complete"]


def test_a_search_says_how_it_goes(search, simulate, capsys):
    """Values, score, best trial and time left, a line before and after each trial."""
    simulate(near_a_hundredth)
    search(trials=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "trial 1 of 2: train.lr=0.001"
    assert lines[1].startswith("trial 1 complete, AP 60.0; best so far: trial 1, AP 60.0; about ")
    assert lines[1].endswith(" min left")
    assert lines[2].startswith("trial 2 of 2: train.lr=")


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": ["train.clip_norm=0.5"]},
        {"searches": ["train.lr=1e-5:1e-2:log"]},
        {"epochs": 2},
        {"weights": "imagenet"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_search_in_the_same_folder_is_refused(search, simulate, change):
    simulate(near_a_hundredth)
    done = search(trials=1)
    change = dict(change)
    with pytest.raises(ConfigError, match="this search was started with other settings or data"):
        search(*change.pop("searches", ()), trials=2, **change)
    assert search(trials=1).trials == done.trials


@pytest.mark.parametrize("name", ["notes.txt", "recipe.yaml", "trials/001/trial.json"])
def test_a_folder_of_something_else_is_refused(search, tmp_path, name):
    path = tmp_path / "search" / name
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n")
    with pytest.raises(ConfigError, match="search: holds other files, and no search"):
        search()
    assert [each for each in (tmp_path / "search").rglob("*") if each.is_file()] == [path]


def test_two_searches_cannot_share_a_folder(search, tmp_path):
    with locked(tmp_path / "search"), pytest.raises(ConfigError, match="is being written by"):
        search()
    assert not (tmp_path / "search").exists()


def test_a_damaged_trial_is_named(search, simulate):
    simulate(near_a_hundredth)
    path = folder_of(search(trials=2).out, 1) / TRIAL
    for text in ("", "[]", json.dumps({"number": 1})):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"001/trial.json: is damaged; remove .*001"):
            search(trials=2)


@pytest.mark.parametrize("options", [{"trials": 0}, {"minutes": 0}, {"minutes": -1}])
def test_no_trials_and_no_time_are_refused(search, tmp_path, options):
    with pytest.raises(ConfigError, match=r"--(trials|minutes) .*: expected a number above 0"):
        search(**options)
    assert not (tmp_path / "search").exists()


def test_data_without_a_validation_split_is_refused(search, data, tmp_path):
    with pytest.raises(DataError, match="no split 'val'"):
        search(data=data / "annotations" / "train.json")
    assert not (tmp_path / "search").exists()


def test_several_processes_are_refused(search, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one trial after the other: start a single process"):
        search()


@pytest.mark.parametrize("library", ["optuna", "sklearn"])
def test_without_a_library_the_extra_is_named(search, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'setmatch\[tune\]'"):
        search()
    assert not (tmp_path / "search").exists()
