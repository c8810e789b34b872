"""Recognize annotations in formats that are not read, so that the error says what to do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from setmatch.data.formats.layout import files_in, subfolders
from setmatch.files.reading import open_regular, read_bytes

_FILES = 20  # of a folder that are looked at
_MOST_BYTES = 20_000_000  # of a JSON file that is looked at
_TABLE = re.compile(r"\b(x_?min|x1|bbox_x|left|region_shape_attributes)\b", re.IGNORECASE)
_EXPORT = "export them as COCO, YOLO or Pascal VOC where they were made"


def describe_unread(place: Path) -> str:
    """Return which other format a file, or a folder with the folders inside, has; and what to do.

    Returns "" where nothing is recognized. Looks at a few files of each folder.
    """
    folders = [place, *subfolders(place)] if place.is_dir() else [place.parent]
    for folder in folders:
        for file in [place] if place.is_file() else _candidates(folder):
            known = _describe(file)
            if known:
                return f"{file} looks like {known}"
    return ""


def _candidates(folder: Path) -> Iterator[Path]:
    for suffix in (".json", ".csv", ".tsv", ".tfrecord", ".tfrecords", ".record", ".names"):
        yield from (folder / name for name in files_in(folder, [suffix])[:_FILES])


def _describe(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix in (".tfrecord", ".tfrecords", ".record"):
        return f"TFRecord, which is not read; {_EXPORT}"
    if suffix == ".names":
        return (
            "Darknet's list of classes, without a data.yaml; put images and labels into images/ "
            "and labels/, and write a data.yaml with 'names'"
        )
    try:
        if suffix == ".json" and file.stat().st_size <= _MOST_BYTES:
            return _describe_tree(msgspec.json.decode(read_bytes(file)))
        if suffix in (".csv", ".tsv"):
            with open_regular(file) as stream:
                head = stream.readline(10_000).decode("utf-8-sig", errors="replace")
            return f"a table of boxes, which is not read; {_EXPORT}" if _TABLE.search(head) else ""
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeError):
        pass
    return ""


def _describe_tree(tree: Any) -> str:
    """Return the format of a JSON file by its keys."""
    first = tree[0] if isinstance(tree, list) and tree else None
    if isinstance(first, dict):
        if {"image", "annotations"} <= first.keys():
            return f"CreateML, which is not read; {_EXPORT}"
        if {"data", "annotations"} <= first.keys():
            return "Label Studio's own JSON, which is not read; export as COCO there"
    if not isinstance(tree, dict):
        return ""
    if {"shapes", "imagePath"} <= tree.keys():
        return "labelme, which is not read; convert it to COCO, as by labelme's labelme2coco.py"
    if {"objects", "size"} <= tree.keys():
        return "Supervisely, which is not read; export as COCO there"
    inner = [tree, *list(tree.values())[:3]]
    if "_via_img_metadata" in tree or any(
        isinstance(each, dict) and {"filename", "regions"} <= each.keys() for each in inner
    ):
        return "VIA, which is not read; export as COCO there"
    return ""
