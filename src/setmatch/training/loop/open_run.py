"""A run that is open: what the parts of its loop share."""

from dataclasses import dataclass
from pathlib import Path

from setmatch.config import TrainSettings
from setmatch.distributed import Distributed
from setmatch.training.logging.run_logger import RunLogger
from setmatch.training.schedule.schedule import Schedule
from setmatch.training.start.setup import TrainingSetup
from setmatch.training.step import TrainStep


@dataclass(frozen=True)
class OpenRun:
    """A run whose folder and log are open; it continues after `first_step` steps.

    None of its fields is replaced while the run goes on: what changes is inside `train_step` (the
    weights) and `logger`, or in the parts of the loop.
    """

    folder: Path
    setup: TrainingSetup
    schedule: Schedule
    train_step: TrainStep
    logger: RunLogger
    first_step: int = 0

    @property
    def settings(self) -> TrainSettings:
        """The settings of this run or stage."""
        return self.setup.recipe.train

    @property
    def distributed(self) -> Distributed:
        """The process that this is, among those that train together."""
        return self.train_step.distributed
