"""MLflow: MLFLOW_TRACKING_URI says where, MLFLOW_EXPERIMENT_NAME in which experiment."""

import os
import re
import time

from setmatch.training.callbacks import Callback, StartedRun
from setmatch.training.logging.writers import Row
from setmatch.training.trackers.numbers import flat, numbers
from setmatch.training.trackers.run_id import earlier_id, keep_id

# Unless the user says otherwise. With MLflow's own values, a training waits four minutes for a
# server that refuses.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_MOST_CHARACTERS, _MOST_PARAMS = 6000, 100  # of a value, and in one batch


class MLflow(Callback):
    """Logs the numbers of a run through a client of its own, so that no active run changes."""

    def __init__(self) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._open = MlflowClient

    def on_start(self, run: StartedRun) -> None:
        """Create the run, named as its folder, or reopen that of a resumed one."""
        self.client = self._open()
        id_ = earlier_id(run, "mlflow")
        if id_ is None:
            id_ = self._create(run)
            keep_id(run, "mlflow", id_)
        else:
            self.client.update_run(id_, status="RUNNING")
        self.id = id_

    def _create(self, run: StartedRun) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "setmatch")
        experiment = self.client.get_experiment_by_name(name)
        experiment_id = (
            self.client.create_experiment(name) if experiment is None else experiment.experiment_id
        )
        created = self.client.create_run(experiment_id, run_name=run.folder.resolve().name)
        id_: str = created.info.run_id
        params = [Param(key, str(value)[:_MOST_CHARACTERS]) for key, value in flat(run.recipe)]
        for start in range(0, len(params), _MOST_PARAMS):
            self.client.log_batch(id_, params=params[start : start + _MOST_PARAMS])
        return id_

    def on_step(self, row: Row) -> None:
        """Log the numbers of a line."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [
            Metric(re.sub(r"[^\w\-. /]", "_", name), value, now_ms, row["step"])
            for name, value in numbers(row).items()
        ]
        self.client.log_batch(self.id, metrics=metrics)

    def on_evaluate(self, row: Row) -> None:
        """Log the metrics of an evaluation."""
        self.on_step(row)

    def on_end(self, status: str) -> None:
        """End the run, with its status."""
        failed = status.startswith("failed")
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")
