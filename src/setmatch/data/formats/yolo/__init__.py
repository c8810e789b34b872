"""YOLO: a text file of boxes or polygons for each image."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from setmatch.data.formats.base import DatasetFormat, SplitSource

if TYPE_CHECKING:
    from setmatch.data.dataset import DetectionDataset
    from setmatch.data.formats.writing import SplitToWrite


def _find(path: Path) -> dict[str, SplitSource]:
    from setmatch.data.formats.yolo.find import find_yolo

    return find_yolo(path)


def _recognizes(file: Path) -> bool:
    return file.suffix.lower() in (".yaml", ".yml", ".data")


def _read(split: SplitSource) -> "DetectionDataset":
    from setmatch.data.formats.yolo.find import read_split

    return read_split(split)


def _write(folder: Path, splits: Sequence["SplitToWrite"]) -> list[str]:
    from setmatch.data.formats.yolo.write import write_yolo

    return write_yolo(folder, splits)


FORMAT = DatasetFormat(
    name="yolo",
    looks_for="YOLO (data.yaml, or images/ beside labels/)",
    find=_find,
    read=_read,
    write=_write,
    recognizes=_recognizes,
    needs_val_split=True,
)
