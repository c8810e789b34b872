"""trackio: a dashboard here, shown by `trackio show`; TRACKIO_PROJECT names the project."""

import os

from setmatch.training.callbacks import Callback, StartedRun
from setmatch.training.logging.writers import Row
from setmatch.training.trackers.numbers import flat, numbers
from setmatch.training.trackers.run_id import earlier_id, keep_id


class Trackio(Callback):
    """Logs the numbers of a run; a resumed run continues under the same name."""

    def __init__(self) -> None:
        import trackio

        self._init = trackio.init

    def on_start(self, run: StartedRun) -> None:
        """Open the run, named as its folder."""
        self.run = self._init(
            os.environ.get("TRACKIO_PROJECT", "setmatch"),
            name=earlier_id(run, "trackio") or run.folder.resolve().name,
            config=dict(flat(run.recipe)),
            resume="allow" if run.first_step else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        keep_id(run, "trackio", self.run.name)

    def on_step(self, row: Row) -> None:
        """Log the numbers of a line."""
        self.run.log(numbers(row), step=row["step"])

    def on_evaluate(self, row: Row) -> None:
        """Log the metrics of an evaluation."""
        self.on_step(row)

    def on_end(self, status: str) -> None:
        """End the run."""
        self.run.finish()
