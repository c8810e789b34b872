"""What a run keeps in its folder, so that it can be resumed: checkpoints and lines of the log."""

from collections.abc import Set

from setmatch.files.folder_lock import FolderLock
from setmatch.training.checkpoints.checkpoint import checkpoint_after, has_checkpoints
from setmatch.training.checkpoints.state import Progress, return_to, save_state
from setmatch.training.loop.open_run import OpenRun
from setmatch.training.run_folder import renew_if_deleted


class Saver:
    """Writes checkpoints and lines of the log, and the folder again if it was deleted.

    `lock` is the first process' own. `saved_step` is the number of steps in the newest checkpoint;
    -1 if there is none.
    """

    def __init__(self, run: OpenRun, lock: FolderLock | None) -> None:
        self._run, self._lock = run, lock
        self.saved_step = -1 if run.setup.checkpoint is None else run.first_step

    def save(self, steps: int, progress: Progress, kept_steps: Set[int]) -> None:
        """Write the checkpoint after `steps` steps; those after `kept_steps` stay, too."""
        self.renew_folder()
        run = self._run
        run.distributed.first(
            lambda: save_state(
                run.folder,
                run.train_step,
                steps,
                progress,
                run.setup.facts,
                run.settings.keep_checkpoints,
                kept_steps,
            )
        )
        self.saved_step = steps

    def write_line(self, step: int) -> bool:
        """Write a line of the log; return whether the folder was created again for it."""
        renewed = self.renew_folder()
        self._run.logger.write_line(step)
        return renewed

    def renew_folder(self) -> bool:
        """Create the folder of the run again if it was deleted; return whether it was."""
        folder, setup = self._run.folder, self._run.setup
        renewed = self._run.distributed.first(lambda: renew_if_deleted(folder, self._lock, setup))
        if renewed:
            self.saved_step = -1
            self._run.logger.say(
                f"warning: {folder} was deleted; it is written again, without its earlier "
                "checkpoints and log"
            )
        return renewed

    def has_checkpoints(self) -> bool:
        """Return whether the folder still has a checkpoint."""
        return self._run.distributed.first(lambda: has_checkpoints(self._run.folder))

    def return_to(self, steps: int | None) -> bool:
        """Return the run to the state after `steps` steps; False if that has no checkpoint."""
        if steps is None:
            return False
        folder = self._run.folder
        checkpoint = self._run.distributed.first(lambda: checkpoint_after(folder, steps))
        if checkpoint is None:
            return False
        return_to(checkpoint, self._run.train_step)
        return True
