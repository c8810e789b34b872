"""Pascal VOC: an XML file for each image."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from setmatch.data.formats.base import DatasetFormat, SplitSource

if TYPE_CHECKING:
    from setmatch.data.dataset import DetectionDataset
    from setmatch.data.formats.writing import SplitToWrite


def _find(path: Path) -> dict[str, SplitSource]:
    from setmatch.data.formats.voc.find import find_voc

    return find_voc(path)


def _read(split: SplitSource) -> "DetectionDataset":
    from setmatch.data.formats.voc.read import read_voc

    here, others = split.details
    return read_voc(here, split.source, others)


def _write(folder: Path, splits: Sequence["SplitToWrite"]) -> list[str]:
    from setmatch.data.formats.voc.write import write_voc

    return write_voc(folder, splits)


FORMAT = DatasetFormat(
    name="voc",
    looks_for="Pascal VOC (Annotations/*.xml, or XML files beside images)",
    find=_find,
    read=_read,
    write=_write,
)
