"""The id that a tracker gave to a run, kept in the run's folder for when it resumes."""

from pathlib import Path

from setmatch.files.reading import read_text
from setmatch.files.writing import write_text
from setmatch.training.callbacks import StartedRun


def earlier_id(run: StartedRun, tracker: str) -> str | None:
    """Return the id that a tracker gave to a resumed run; None for a new run."""
    path = _path(run, tracker)
    return read_text(path).strip() or None if run.first_step and path.exists() else None


def keep_id(run: StartedRun, tracker: str, id_: str) -> None:
    """Write the id of a run for a later resume."""
    write_text(_path(run, tracker), f"{id_}\n")


def _path(run: StartedRun, tracker: str) -> Path:
    return run.folder / f"{tracker}_id.txt"
