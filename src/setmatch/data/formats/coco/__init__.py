"""COCO JSON: detection and instance segmentation, and COCO panoptic segmentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from setmatch.data.formats.base import DatasetFormat, SplitSource

if TYPE_CHECKING:
    from setmatch.data.dataset import DetectionDataset
    from setmatch.data.formats.writing import SplitToWrite


def _find(path: Path) -> dict[str, SplitSource]:
    from setmatch.data.formats.coco.find import find_coco

    return find_coco(path)


def _find_panoptic(path: Path) -> dict[str, SplitSource]:
    from setmatch.data.formats.coco.find import find_panoptic

    return find_panoptic(path)


def _recognizes(file: Path) -> bool:
    from setmatch.data.formats.coco.find import kind_of

    kind = kind_of(file)
    return kind == "coco" or (kind is None and file.suffix.lower() == ".json")


def _recognizes_panoptic(file: Path) -> bool:
    from setmatch.data.formats.coco.find import kind_of

    return kind_of(file) == "panoptic"


def _read(split: SplitSource) -> "DetectionDataset":
    from setmatch.data.formats.coco.read import read_coco

    return read_coco(split.source)


def _read_panoptic(split: SplitSource) -> "DetectionDataset":
    from setmatch.data.formats.coco.read_panoptic import read_panoptic

    return read_panoptic(split.source)


def _write(folder: Path, splits: Sequence["SplitToWrite"]) -> list[str]:
    from setmatch.data.formats.coco.write import write_coco

    return write_coco(folder, splits)


FORMAT = DatasetFormat(
    name="coco",
    looks_for="COCO JSON (such as annotations/train.json or train/_annotations.coco.json)",
    find=_find,
    read=_read,
    write=_write,
    recognizes=_recognizes,
    family="coco",
)
PANOPTIC_FORMAT = DatasetFormat(
    name="panoptic",
    looks_for="COCO panoptic JSON",
    find=_find_panoptic,
    read=_read_panoptic,
    recognizes=_recognizes_panoptic,
    family="coco",
)
