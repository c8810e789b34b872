"""What trackers of experiments keep of a run is what its log has, on this machine, also resumed."""

import json
import os
import sys
from types import SimpleNamespace

import pytest
from tiny_runs import CrashError, crash_before, log_rows, run_tiny, write_data

from setmatch.training.trackers.mlflow import MLflow
from setmatch.training.trackers.numbers import flat, numbers

SHORT = ("train.epochs=2", "train.log_every=1", "train.checkpoint_every=2")
RECIPE = {"train": {"lr": 0.5, "schedule": "cosine"}, "data": {"mean": [0.1, 0.2]}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), splits=("train", "val"))


@pytest.fixture
def resumed(data, tmp_path, monkeypatch):
    """A run with a tracker, interrupted after three steps, of which one is taken again."""

    def run(name):
        out = tmp_path / "run"
        with monkeypatch.context() as patched:
            crash_before(3, patched)
            with pytest.raises(CrashError):
                run_tiny(data, out, *SHORT, callbacks=[name])
        return run_tiny(data, out, *SHORT, resume=True, callbacks=[name]).folder

    return run


def logged(run):
    """The values of a run's log: (name, step) to value."""
    rows = [row for row in log_rows(run) if row["kind"] != "watch"]
    return {(name, row["step"]): value for row in rows for name, value in numbers(row).items()}


def test_numbers_have_the_kind_of_their_line_and_absent_ones_are_left_out():
    row = {"kind": "val", "step": 3, "AP": 0.5, "AP_small": None, "epoch": 1, "note": "x"}
    assert numbers(row) == {"val/AP": 0.5, "val/epoch": 1.0}


def test_settings_have_their_full_names():
    assert dict(flat(RECIPE)) == {
        "train.lr": 0.5,
        "train.schedule": "cosine",
        "data.mean": [0.1, 0.2],
    }


def test_tensorboard_has_the_curves(resumed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = resumed("tensorboard")
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    kept = {
        (name, event.step): event.value
        for name in events.Tags()["scalars"]
        for event in events.Scalars(name)
    }
    assert kept.keys() == logged(folder).keys()
    assert all(kept[key] == pytest.approx(value, rel=1e-6) for key, value in logged(folder).items())
    (text,) = events.Tensors("recipe/text_summary")
    assert b"log_every" in text.tensor_proto.string_val[0]


@pytest.mark.campaign  # installs and starts for seconds
def test_mlflow_has_the_metrics_and_settings(resumed, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tiny")
    from mlflow import MlflowClient

    folder = resumed("mlflow")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["train.log_every"] == "1"
    last = {
        name: value
        for (name, _), value in sorted(logged(folder).items(), key=lambda each: each[0][1])
    }
    assert run.data.metrics == pytest.approx(last)
    steps = [each.step for each in client.get_metric_history(run.info.run_id, "train/loss")]
    assert set(steps) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("chosen", [None, "7"])
def test_a_training_does_not_wait_long_for_a_server_of_mlflow(chosen, monkeypatch):
    """Unless the user has chosen how long; MLflow itself tries for minutes."""
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=object))
    names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    for name in names:
        monkeypatch.setenv(name, chosen or "")  # so that it is restored in the end
        if chosen is None:
            monkeypatch.delenv(name)
    MLflow()
    assert [os.environ[name] for name in names] == ([chosen] * 2 if chosen else ["2", "20"])


@pytest.mark.campaign  # installs and starts for seconds
def test_trackio_has_the_metrics(resumed, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_PROJECT", "tiny")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    from trackio.sqlite_storage import SQLiteStorage

    folder = resumed("trackio")
    kept = {
        (name, row["step"]): value
        for row in SQLiteStorage.get_logs("tiny", "run")
        for name, value in row.items()
        if name not in ("step", "timestamp")
    }
    assert kept == pytest.approx(logged(folder))


@pytest.mark.campaign  # installs and starts for seconds
def test_wandb_keeps_the_metrics_offline(resumed, monkeypatch):
    """In a file of its own format, whose names and numbers are text; a resumed run has one id."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = resumed("wandb")
    id_ = (folder / "wandb_id.txt").read_text().strip()
    files = sorted(folder.glob(f"wandb/offline-run-*/run-{id_}.wandb"))
    assert len(files) == len(list(folder.glob("wandb/offline-run-*"))) == 2
    text = b"".join(file.read_bytes() for file in files)
    assert b"train.log_every" in text
    for (name, _), value in logged(folder).items():
        assert name.encode() in text
        assert name != "train/loss" or json.dumps(value).encode() in text
