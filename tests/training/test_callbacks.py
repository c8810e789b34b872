"""Callbacks hear what the log has, and never end a training."""

import signal
import sys
from pathlib import Path

import pytest
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows, run_tiny, write_data

from setmatch.errors import ConfigError, ExtraMissingError, TrainingError
from setmatch.training.callbacks import Callback, CallbackList, StartedRun
from setmatch.training.signals import Stopped
from setmatch.training.trackers import TRACKERS
from thorough import usually

SHORT = ("train.epochs=2", "train.log_every=1")


class Recorder(Callback):
    def __init__(self):
        self.starts, self.rows, self.ends = [], [], []

    def on_start(self, run):
        self.starts.append(run)

    def on_step(self, row):
        self.rows.append(dict(row))

    def on_evaluate(self, row):
        self.rows.append(dict(row))

    def on_end(self, status):
        self.ends.append(status)


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", splits=("train", "val"))


def test_callbacks_hear_every_line_of_the_log(data, tmp_path):
    recorder = Recorder()
    run = run_tiny(data, tmp_path / "run", *SHORT, callbacks=[recorder])
    logged = [row for row in log_rows(run.folder) if row["kind"] in ("train", "val")]
    assert recorder.rows == logged
    assert {row["kind"] for row in logged} == {"train", "val"}
    (start,) = recorder.starts
    assert (start.folder, start.first_step) == (run.folder, 0)
    assert start.recipe["train"]["log_every"] == 1
    assert recorder.ends == ["done"]


def test_a_resumed_run_says_where_it_starts(data, tmp_path, monkeypatch):
    first, second = Recorder(), Recorder()
    settings = (*SHORT, "train.checkpoint_every=1")
    with monkeypatch.context() as patched:
        crash_before(3, patched)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", *settings, callbacks=[first])
    assert first.ends == ["failed: CrashError"]
    run_tiny(data, tmp_path / "run", *settings, resume=True, callbacks=[second])
    assert second.starts[0].first_step == 3
    assert [row["step"] for row in second.rows if row["kind"] == "train"] == [4, 5]


@pytest.mark.parametrize(
    "method", usually(["on_start", "on_step", "on_evaluate", "on_end"], "on_step", "on_evaluate")
)
def test_one_that_fails_is_called_no_more_and_training_goes_on(data, tmp_path, capsys, method):
    def fail(self, *_):
        calls.append(method)
        raise ConnectionError("no route\nto host")

    calls, other = [], Recorder()
    failing = type("Remote", (Callback,), {method: fail})()
    run = run_tiny(data, tmp_path / "run", *SHORT, callbacks=[failing, other])
    assert calls == [method]
    sentence = "Remote failed (ConnectionError: no route to host) and is not called anymore"
    assert capsys.readouterr().err.count(sentence) == 1
    assert len(other.rows) == len([row for row in log_rows(run.folder) if row["kind"] != "watch"])
    assert other.ends == ["done"]


class WithoutTextError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("method", ["on_start", "on_step", "on_evaluate", "on_end"])
@pytest.mark.parametrize(
    "error", [SystemExit(3), WithoutTextError(), MemoryError(), StopIteration(), ValueError("a\nb")]
)
def test_no_error_of_a_callback_ends_a_training(tmp_path, method, error):
    """Not even one that ends a program, or that has no text."""

    def fail(self, *_):
        raise error

    said = []
    with CallbackList([type("Remote", (Callback,), {method: fail})()], said.append) as callbacks:
        callbacks.start(StartedRun(tmp_path, {}))
        callbacks.write({"kind": "train", "step": 1})
        callbacks.write({"kind": "val", "step": 1})
        callbacks.end("done")
    assert [f"Remote failed ({type(error).__name__}" in each for each in said] == [True]
    assert "\n" not in said[0]


def test_what_one_does_to_its_row_or_recipe_reaches_nobody_else():
    """Neither the others nor the run itself, which reads the row afterwards."""

    class Careless(Callback):
        def on_start(self, run):
            run.recipe["train"].clear()

        def on_step(self, row):
            row.clear()

        on_evaluate = on_step

    recipe, other = {"train": {"lr": 1.0}}, Recorder()
    rows = [{"kind": "train", "step": 1}, {"kind": "val", "step": 1, "AP": 0.5}]
    callbacks = CallbackList([Careless(), other], pytest.fail)
    callbacks.start(StartedRun(Path("run"), recipe))
    for row in rows:
        callbacks.write(row)
    assert rows == [{"kind": "train", "step": 1}, {"kind": "val", "step": 1, "AP": 0.5}]
    assert other.rows == rows
    assert other.starts[0].recipe == recipe == {"train": {"lr": 1.0}}


class EndAt(Callback):
    """Returns `reasons` at its evaluations, one after the other."""

    def __init__(self, *reasons):
        self.reasons, self.ends = list(reasons), []

    def on_evaluate(self, row):
        return self.reasons.pop(0)

    def on_end(self, status):
        self.ends.append(status)


def evaluated_steps(run):
    return [row["step"] for row in log_rows(run.folder) if row["kind"] == "val"]


def test_one_can_end_a_run_at_an_evaluation(data, tmp_path, capsys):
    """Its steps are saved; a resumed run continues where it ended."""
    long = ("train.epochs=4",)
    whole = run_tiny(data, tmp_path / "whole", *long)
    callback, recorder = EndAt(None, "two are enough"), Recorder()
    run = run_tiny(data, tmp_path / "run", *long, callbacks=[callback, recorder])
    assert evaluated_steps(run) == evaluated_steps(whole)[:2]
    assert "stopped early: two are enough" in capsys.readouterr().err
    assert callback.ends == recorder.ends == ["stopped early"]
    run_tiny(data, run.folder, *long, resume=True, callbacks=[EndAt(None, None)])
    assert_bit_equal(run.folder, whole.folder)


def test_a_run_that_is_complete_has_not_stopped_early(data, tmp_path, capsys):
    callback = EndAt(None, "two are enough")
    run_tiny(data, tmp_path / "run", *SHORT, callbacks=[callback])
    assert callback.ends == ["done"]
    assert "stopped early" not in capsys.readouterr().err


@pytest.mark.parametrize("value", [True, 0.5, {"AP": 1}])
def test_only_a_sentence_ends_a_run(data, tmp_path, value):
    """Callbacks return whatever their last call returns."""
    callback = EndAt(value, value)
    run_tiny(data, tmp_path / "run", *SHORT, callbacks=[callback])
    assert callback.ends == ["done"]


def test_a_signal_while_one_starts_stops_the_run(data, tmp_path):
    """As Ctrl-C while a tracker waits for its server."""

    class Slow(Callback):
        def on_start(self, run):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        run_tiny(data, tmp_path / "run", *SHORT, callbacks=[Slow()])
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_failed_training_ends_them_with_the_reason(data, tmp_path):
    recorder = Recorder()
    with pytest.raises(TrainingError):
        run_tiny(
            data,
            tmp_path / "run",
            *SHORT,
            "train.nonfinite_limit=1",
            "train.lr=1e30",
            "train.epochs=50",
            callbacks=[recorder],
        )
    (status,) = recorder.ends
    assert status.startswith("failed: TrainingError: ")


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (["tensorbord"], "no tracker is named 'tensorbord'; did you mean tensorboard"),
        (["x"], "known are tensorboard, wandb, mlflow, trackio"),
        ("wandb", "'wandb' is one name; pass a list"),
        ([print], "builtin_function_or_method is not a callback; derive its class"),
        ([Recorder], "type is not a callback"),
    ],
)
def test_what_is_no_callback_is_refused_before_anything_is_written(
    data, tmp_path, callbacks, message
):
    with pytest.raises(ConfigError, match=message):
        run_tiny(data, tmp_path / "run", callbacks=callbacks)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", list(TRACKERS))
def test_without_the_library_the_extra_is_named(data, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ExtraMissingError, match=rf"pip install 'setmatch\[{name}\]'"):
        run_tiny(data, tmp_path / "run", callbacks=[name])
    assert not (tmp_path / "run").exists()
