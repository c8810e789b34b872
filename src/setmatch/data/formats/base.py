"""What a data format is: how its data sets are found, read and written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setmatch.data.annotations.box_convention import BoxConvention
from setmatch.errors import ConfigError, DataError

if TYPE_CHECKING:
    from setmatch.data.dataset import DetectionDataset
    from setmatch.data.formats.writing import SplitToWrite

WHOLE = "all"  # name of the only split where nothing divides the data set


@dataclass(frozen=True)
class SplitSource:
    """One split of a data set on disk: found, but not read yet.

    The cache reads the split again when one of `files` changes, when any file inside one of
    `listings` changes, or when a file is added to or removed from one of `folders`.
    """

    format: str  # name of the DatasetFormat that reads it
    split: str  # "train", "val", "test", WHOLE, or a name of the data set's own
    source: Path  # annotation file or folder, as error messages name it
    files: tuple[Path, ...] = ()
    listings: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    details: Any = None  # whatever else the format's `read` needs
    boxes: BoxConvention | None = None  # how boxes are written, where the user has said it
    root: Path | None = None  # the data set's folder, outside of which nothing is opened
    images: Path | None = None  # the folder of the image files, where the user chose it
    notes: tuple[str, ...] = ()  # sentences on why this source was taken

    def named(self, split: str) -> "SplitSource":
        """Return the same source under another split name."""
        return replace(self, split=split)

    @property
    def key(self) -> str:
        """Text that identifies this split in the cache."""
        boxes = "" if self.boxes is None else self.boxes.words
        places = (self.source, self.source.absolute(), self.root, self.images)
        return "|".join([self.format, self.split, boxes, *map(str, places)])


class UnrelatedFileError(DataError):
    """A file that cannot be read, and that may have nothing to do with the data set.

    `find` raises it where it found nothing else. It counts only if no other format finds anything.
    """


class LostSplitError(DataError):
    """A split that a file names, but whose folder or list does not exist."""


def _never(file: Path) -> bool:
    return False


@dataclass(frozen=True)
class DatasetFormat:
    """A format of annotated images. Append one to `setmatch.data.formats.registry.FORMATS` to
    make `open_dataset`, `audit`, `convert_dataset` and the command line know it.

    `find` returns the splits of the data set at a path by name, and nothing where the path holds
    no data set of this format. It must be quick: it runs on every folder that is opened. `read`
    returns the images and annotations of one split. `write` fills an empty folder with splits and
    returns a sentence for each thing the format cannot hold; None marks a format that is only
    read. All three raise DataError with file, place and likely fix.
    """

    name: str  # as in --format and --to
    looks_for: str  # what `find` looks for, in an error message: "COCO JSON (such as ...)"
    find: Callable[[Path], dict[str, SplitSource]]
    read: Callable[[SplitSource], "DetectionDataset"]
    write: Callable[[Path, Sequence["SplitToWrite"]], list[str]] | None = None
    # True for a single file to open in this format although no format was named.
    recognizes: Callable[[Path], bool] = _never
    # Formats of one family may lie in one folder without a warning about the second.
    family: str | None = None
    takes_images: bool = False  # True where `read` heeds the folder in a source's `images`
    needs_val_split: bool = False  # True where the format's own tools refuse data without one
    boxes: BoxConvention | None = None  # as its files write them; None: `read` knows no other way
    has_longer_rows: bool = False  # True where a row may hold keypoints or a polygon

    def convention(self, words: str) -> BoxConvention:
        """Return the convention that the words of `--boxes` stand for in this format.

        Raises ConfigError for words that mean nothing, in general or in this format.
        """
        if self.boxes is None:
            raise ConfigError(f"--boxes {words}: boxes of the format {self.name} have one reading")
        chosen = self.boxes.changed(words)
        if chosen.rows is not None and not self.has_longer_rows:
            raise ConfigError(f"--boxes {words}: the format {self.name} has no {chosen.rows} there")
        return chosen
