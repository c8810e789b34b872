"""What the writers of all formats share: the splits to write, and file names without clashes."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from setmatch.data.dataset import DetectionDataset
from setmatch.files.reading import open_regular

_COPIED_BYTES = 1 << 20  # at a time


@dataclass(frozen=True)
class SplitToWrite:
    """One split of a data set to write."""

    name: str  # of the split
    dataset: DetectionDataset
    link: bool = False  # True links to the image files instead of copying them

    def place_images(self, folder: Path, files: Sequence[str]) -> None:
        """Copy or link the images into `folder` as `files`, one name per image; raises OSError."""
        for parent in {folder, *((folder / file).parent for file in files)}:
            parent.mkdir(parents=True, exist_ok=True)
        for image, file in enumerate(files):
            original, copy = self.dataset.path(image), folder / file
            if not self.link:
                with open_regular(original) as source, copy.open("wb") as target:
                    shutil.copyfileobj(source, target, _COPIED_BYTES)
            elif not copy.is_symlink():
                copy.symlink_to(original.absolute())


def utf8_name(name: str) -> str:
    """Return a file name that text in UTF-8 can hold: other bytes are written as %E9."""
    return re.sub(r"[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", name)


def distinct_names(names: Sequence[str], taken: set[str], flat: bool = False) -> list[str]:
    """Return file names of which no two differ only in their suffix.

    `taken` holds the names in use, without suffixes; the new ones are added to it. `flat` replaces
    folders and white space, for formats that list names in a text file.
    """
    distinct = []
    for name in names:
        clean = re.sub(r"[^\S ]|[\x00-\x1f]", "_", utf8_name(name))
        path = PurePosixPath(re.sub(r"[\s/]", "_", clean) if flat else clean)
        stem, number = str(path.with_suffix("")), 2
        free = stem
        while free in taken:
            free, number = f"{stem}_{number}", number + 1
        taken.add(free)
        distinct.append(free + path.suffix)
    return distinct


def counted(count: int, thing: str, outcome: str) -> list[str]:
    """Return the sentence "count thing: outcome", or nothing where the count is 0."""
    return [f"{count} {thing}: {outcome}"] if count else []
