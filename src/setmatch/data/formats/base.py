"""A split of a data set as it lies on disk, found by looking and not yet read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from setmatch.data.dataset import DetectionDataset

WHOLE = "all"  # the split of a data set that nothing divides


@dataclass(frozen=True)
class SplitSource:
    """One split: how to read it, and what on disk it is made from.

    A change to one of `files`, to any file in `listings`, or to which files are in `folders`, can
    change what `read` returns.
    """

    format: str
    split: str
    source: Path
    read: Callable[[], DetectionDataset]
    files: tuple[Path, ...] = ()
    listings: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()

    def named(self, split: str) -> "SplitSource":
        """Return the same under another split's name."""
        return replace(self, split=split)

    @property
    def key(self) -> str:
        """What tells this part from every other."""
        return "|".join([self.format, self.split, str(self.source), str(self.source.absolute())])
