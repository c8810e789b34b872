"""Which split of which format a folder or file holds, and its Index."""

from pathlib import Path

from setmatch.data.coco import read_coco
from setmatch.data.index import Index
from setmatch.data.layout import find_split
from setmatch.errors import DataError


def open_split(path: Path, split: str, format: str | None) -> Index:
    """Open a split."""
    if path.is_dir():
        return read_coco(find_split(path, split)[0])
    if path.is_file():
        return read_coco(path)
    raise DataError(f"{path}: no such file or folder; give a data set's folder or its COCO JSON")
