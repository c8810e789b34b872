"""What the writers of data sets share: the splits to write, and names that formats can keep."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from setmatch.data.dataset import DetectionDataset


@dataclass(frozen=True)
class SplitToWrite:
    """A split and the names that its images get, in the order of the dataset."""

    name: str
    dataset: DetectionDataset
    files: list[str]

    def __iter__(self) -> Iterator[tuple[int, str, range]]:
        """Yield the number of each image, its new file name, and its annotations."""
        ends = self.dataset.offsets.tolist()
        for image, file in enumerate(self.files):
            yield image, file, range(ends[image], ends[image + 1])


def distinct_names(names: Sequence[str], taken: set[str], flat: bool) -> list[str]:
    """Return file names of which no two differ in their suffix alone; `taken` has those in use.

    `flat` makes names without folders and white space, as VOC's lists need them.
    """
    found = []
    for name in names:
        clean = re.sub(r"[^\S ]|[\x00-\x1f]", "_", name)
        path = PurePosixPath(re.sub(r"[\s/]", "_", clean) if flat else clean)
        stem, number = str(path.with_suffix("")), 2
        free = stem
        while free in taken:
            free, number = f"{stem}_{number}", number + 1
        taken.add(free)
        found.append(free + path.suffix)
    return found


def counted(count: int, thing: str, fate: str) -> list[str]:
    """Return the sentence that says how many things met which fate; none where there are none."""
    return [f"{count} {thing}: {fate}"] if count else []
