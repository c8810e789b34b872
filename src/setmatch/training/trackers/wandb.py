"""Weights & Biases: WANDB_PROJECT names the project; WANDB_MODE=offline needs no account."""

import os

from setmatch.training.callbacks import Callback, StartedRun
from setmatch.training.logging.writers import Row
from setmatch.training.trackers.numbers import flat, numbers
from setmatch.training.trackers.run_id import earlier_id, keep_id


class WeightsAndBiases(Callback):
    """Sends the numbers of a run; a resumed run continues the same one there."""

    def __init__(self) -> None:
        import wandb

        self._init = wandb.init

    def on_start(self, run: StartedRun) -> None:
        """Open the run, named as its folder."""
        self.run = self._init(
            project=os.environ.get("WANDB_PROJECT", "setmatch"),
            name=run.folder.resolve().name,
            id=earlier_id(run, "wandb"),
            resume="allow",
            dir=run.folder,
            config=dict(flat(run.recipe)),
            reinit="create_new",  # apart from a run that the user's own code may have opened
        )
        keep_id(run, "wandb", self.run.id)
        # Its own steps may only grow; those of a run resumed from an earlier checkpoint do not.
        self.run.define_metric("*", step_metric="step")

    def on_step(self, row: Row) -> None:
        """Send the numbers of a line."""
        self.run.log({"step": row["step"], **numbers(row)})

    def on_evaluate(self, row: Row) -> None:
        """Send the metrics of an evaluation."""
        self.on_step(row)

    def on_end(self, status: str) -> None:
        """End the run; one that failed is marked so."""
        self.run.finish(exit_code=int(status.startswith("failed")))
