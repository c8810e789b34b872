"""The folder of a run: locked while it is written, and created again if it is deleted."""

import warnings
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path

from setmatch.distributed import Distributed
from setmatch.errors import ConfigError, TrainingError
from setmatch.files.folder_lock import FolderLock, locked
from setmatch.files.leftovers import remove_leftovers
from setmatch.files.writing import require_folder, set_aside
from setmatch.training.checkpoints.best import BEST
from setmatch.training.checkpoints.checkpoint import CHECKPOINTS, remove_old, set_aside_newer
from setmatch.training.logging.live.live_page import PAGE
from setmatch.training.logging.live.samples import SAMPLES
from setmatch.training.logging.run_logger import TABLE
from setmatch.training.logging.writers import LOG
from setmatch.training.start.resolve_recipe import RECIPE, run_not_writable, write_recipe
from setmatch.training.start.setup import TrainingSetup

DATA_REPORT = "data_report.json"
FILES, FOLDERS = (RECIPE, DATA_REPORT, LOG, TABLE, PAGE, SAMPLES), (CHECKPOINTS, BEST)


@contextmanager
def locked_run(run: Path, distributed: Distributed) -> Iterator[FolderLock | None]:
    """Let the first process, which writes the files, lock the folder of a run; None in the others.

    Raises ConfigError, in all processes, if another process writes the folder, or it is a file or
    cannot be written.
    """
    with ExitStack() as stack:
        locks: list[FolderLock] = []

        def lock() -> None:
            require_folder(run)
            locks.append(stack.enter_context(locked(run)))

        distributed.first(lock)
        yield locks[0] if locks else None


def tidy(run: Path) -> None:
    """Remove leftovers of killed processes, and rename what stands in the place of a run's files.

    A warning names what was renamed.
    """
    for folder in (run, run / CHECKPOINTS):
        remove_leftovers(folder)
    _clear([run / name for name in FILES if not (run / name).is_file()])
    _clear([run / name for name in FOLDERS if not (run / name).is_dir()])


def _clear(misplaced: Sequence[Path]) -> None:
    """Rename what is in the way of a run's files, with a warning."""
    for path in misplaced:
        renamed = set_aside(path)
        if renamed is not None:
            warnings.warn(
                f"{path}: is not what a run writes there; renamed to {renamed.name}", stacklevel=2
            )


def open_run_folder(folder: Path, setup: TrainingSetup, spared: Set[int] = frozenset()) -> None:
    """Create the folder of the run with its recipe and data report; set damaged checkpoints aside.

    Checkpoints after the steps `spared` stay. Raises ConfigError if the folder cannot be written.
    """
    write_recipe(folder, setup.recipe)
    try:
        setup.check.write(folder / DATA_REPORT)
        set_aside_newer(folder, -1 if setup.checkpoint is None else setup.checkpoint.step)
        remove_old(folder, setup.recipe.train.keep_checkpoints, spared)
    except OSError as error:
        raise run_not_writable(folder, error) from None


def renew_if_deleted(folder: Path, lock: FolderLock | None, setup: TrainingSetup) -> bool:
    """Create the folder again if it was deleted during the run; return whether it was.

    What has taken the place of its checkpoints is renamed, so that they can be written again.
    Raises TrainingError if another process writes there by now.
    """
    if lock is not None and lock.is_lost():
        try:
            lock.renew()
        except ConfigError as error:
            raise TrainingError(f"the folder of this run was deleted or moved; {error}") from None
    if not (folder / CHECKPOINTS).is_dir():
        _clear([folder / CHECKPOINTS])
    if (folder / RECIPE).exists():
        return False
    write_recipe(folder, setup.recipe)
    return True
