"""Files of results that are complete up to any moment: whole lines, whatever ends the program."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setmatch.files.writing import atomic_file


@contextmanager
def growing_file(path: Path, in_place: bool) -> Iterator[Path]:
    """Yield where to write `path`: at itself, for who follows it, or aside until it is done.

    What is aside is renamed at the end of the block, and lost if the block fails.
    """
    if not in_place:
        with atomic_file(path) as aside:
            yield aside
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path


class LinesFile:
    """A text file in UTF-8 that is written line by line, without a buffer."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115

    def write(self, line: str) -> None:
        """Add a line, whole or, if the disk is full, not at all: then, OSError is raised."""
        before = self._file.tell()
        rest = memoryview(f"{line}\n".encode(errors="backslashreplace"))
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            os.ftruncate(self._file.fileno(), before)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()
