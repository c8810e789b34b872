"""Files of a run that only people read, such as RUN/live.html."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ReportFile:
    """A file that no resume needs: a run goes on where it cannot be written, and says so once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_said = False

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield the path; an OSError, such as that of a full disk, becomes a warning."""
        try:
            yield self.path
        except OSError as error:
            if self._is_said:
                return
            self._is_said = True
            warnings.warn(
                f"{self.path}: cannot be written ({error.strerror}); training continues without "
                "it, and writes it when it can again",
                stacklevel=3,
            )
