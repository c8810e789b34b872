"""The checkpoints of a run, in folders like RUN/checkpoints/step_00000123."""

import os
import warnings
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setmatch.errors import TrainingError
from setmatch.files.manifest import DamagedError, read_manifest, write_whole
from setmatch.files.writing import remove_whole

CHECKPOINTS = "checkpoints"
PREFIX = "step_"


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose files match its manifest; `facts` were passed when it was written."""

    folder: Path
    step: int
    facts: Mapping[str, Any]


def has_checkpoints(run: Path) -> bool:
    """Return whether the run has any checkpoint, valid or damaged."""
    return bool(_folders(run))


def write_checkpoint(
    run: Path,
    step: int,
    fill: Callable[[Path], None],
    facts: Mapping[str, Any],
    keep: int,
    spared: Set[int] = frozenset(),
) -> None:
    """Write the checkpoint after `step` steps, then remove all but the newest `keep`.

    Those after the steps `spared` stay, too. Raises TrainingError if it cannot be written; earlier
    checkpoints stay intact.
    """
    folder = run / CHECKPOINTS / f"{PREFIX}{step:08d}"
    write_whole(folder, fill, {**facts, "step": step})
    remove_old(run, keep, spared)


def remove_old(run: Path, keep: int, spared: Set[int] = frozenset()) -> None:
    """Remove all but the newest `keep` checkpoints and those after the steps `spared`."""
    for old in _folders(run)[keep:]:
        if _step(old) in spared:
            continue
        with suppress(OSError):
            remove_whole(old)


def latest_valid(run: Path) -> Checkpoint:
    """Return the newest checkpoint whose files all match its manifest.

    A warning names each newer, damaged checkpoint and what is wrong with it. Raises TrainingError
    if no checkpoint is valid.
    """
    folders = _folders(run)
    for folder in folders:
        try:
            manifest = read_manifest(folder)
            step = int(manifest["step"])
        except (DamagedError, KeyError, OverflowError, TypeError, ValueError) as error:
            warnings.warn(f"damaged checkpoint is not used: {error}", stacklevel=2)
        else:
            return Checkpoint(folder, step, manifest)
    reason = f"all {len(folders)} are damaged" if folders else "there are none"
    raise TrainingError(f"{run / CHECKPOINTS}: no valid checkpoint to resume from: {reason}")


def checkpoint_after(run: Path, step: int) -> Checkpoint | None:
    """Return the checkpoint after `step` steps; None, with a warning, without a valid one."""
    folder = run / CHECKPOINTS / f"{PREFIX}{step:08d}"
    try:
        return Checkpoint(folder, step, read_manifest(folder))
    except DamagedError as error:
        warnings.warn(f"damaged checkpoint is not used: {error}", stacklevel=2)
        return None


def set_aside_newer(run: Path, step: int) -> None:
    """Rename the checkpoints after `step`, all damaged, so that they are not used again."""
    for folder in _folders(run):
        if _step(folder) > step:
            aside = folder.with_name(f"damaged_{folder.name}")
            if os.path.lexists(aside):
                remove_whole(aside)
            folder.rename(aside)


def _folders(run: Path) -> list[Path]:
    """Return the folders of checkpoints, newest first."""
    folders = [f for f in (run / CHECKPOINTS).glob(f"{PREFIX}*") if _step(f) >= 0]
    return sorted(folders, key=_step, reverse=True)


def _step(folder: Path) -> int:
    digits = folder.name.removeprefix(PREFIX)
    return int(digits) if digits.isdecimal() else -1
