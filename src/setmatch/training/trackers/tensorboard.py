"""TensorBoard: curves in RUN/tensorboard, shown by `tensorboard --logdir RUN`."""

import json

from setmatch.training.callbacks import Callback, StartedRun
from setmatch.training.logging.writers import Row
from setmatch.training.trackers.numbers import numbers


class TensorBoard(Callback):
    """Writes event files."""

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = SummaryWriter

    def on_start(self, run: StartedRun) -> None:
        """Open an event file; of a resumed run, earlier values after its step are hidden."""
        purge_step = run.first_step + 1 if run.first_step else None
        self.writer = self._open(str(run.folder / "tensorboard"), purge_step=purge_step)
        if not run.first_step:
            self.writer.add_text("recipe", f"```\n{json.dumps(run.recipe, indent=2)}\n```")

    def on_step(self, row: Row) -> None:
        """Write the numbers of a line."""
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, row["step"])

    def on_evaluate(self, row: Row) -> None:
        """Write the metrics of an evaluation, at once."""
        self.on_step(row)
        self.writer.flush()

    def on_end(self, status: str) -> None:
        """Close the event file."""
        self.writer.close()
