"""Recognize annotations in formats that are not read, so that the error says what to do."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from setmatch.data.formats.layout import files_in, subfolders
from setmatch.data.formats.text_formats import describe_text
from setmatch.files.reading import open_regular, read_json

_LEVELS = 3
_FOLDERS = 20  # in a folder, that are looked into
_FILES = 20  # of a folder that are looked at
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z", ".rar")
_SUFFIXES = (
    *(".json", ".geojson", ".jsonl", ".ndjson", ".xml"),
    *(".csv", ".tsv", ".tfrecord", ".tfrecords", ".record", ".names", ".parquet", ".odgt", ".txt"),
    *PACKED,  # last: an archive may hold anything
)
_OF_LINES = (".jsonl", ".ndjson", ".odgt")
_JSON = (".json", ".geojson", *_OF_LINES)
_MOST_BYTES = 20_000_000  # of a JSON file that is looked at
_TABLE = re.compile(r"\b(x_?min|x1|bbox_x|left|region_shape_attributes)\b", re.IGNORECASE)
_EXPORT = "export them as COCO, YOLO or Pascal VOC where they were made"


_CVAT = re.compile(r"<annotations>")
_LINE = re.compile(r'"(bbox|box|boxes|annotations|labels|objects|projects|class_names|gtboxes)"')
_VOTT = "VoTT's own JSON, which is not read; export as Pascal VOC there"
_BY_KEYS = {  # of a JSON file that is an object
    frozenset({"shapes", "imagePath"}): (
        "labelme, which is not read; convert it to COCO, as by labelme's labelme2coco.py"
    ),
    frozenset({"objects", "size"}): "Supervisely, which is not read; export as COCO there",
    frozenset({"_via_img_metadata"}): "VIA, which is not read; export as COCO there",
    frozenset({"categories", "items"}): (
        "Datumaro, which is not read; convert it to COCO: datum convert -f coco"
    ),
    frozenset({"samples"}): (
        "FiftyOne's own JSON, which is not read; export as COCODetectionDataset there"
    ),
    frozenset({"type", "features"}): f"GeoJSON, which is not read; {_EXPORT}",
    frozenset({"asset", "regions"}): _VOTT,
    frozenset({"assets", "securityToken"}): _VOTT,
}


def describe_unread(place: Path) -> str:
    """Return which other format a file, or a folder with the folders inside, has; and what to do.

    Returns "" where nothing is recognized. Looks at a few files of each folder, two levels deep.
    """
    for file in [place] if place.is_file() else _candidates_below(place):
        known = _describe(file)
        if known:
            return f"{file} looks like {known}"
    return ""


def _candidates_below(place: Path) -> Iterator[Path]:
    level = [place]
    for _ in range(_LEVELS):
        for folder in level:
            yield from _candidates(folder)
        level = [inner for folder in level for inner in subfolders(folder)[:_FOLDERS]]


def _candidates(folder: Path) -> Iterator[Path]:
    for suffix in _SUFFIXES:
        yield from (folder / name for name in files_in(folder, [suffix])[:_FILES])


def _describe(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix in (".tfrecord", ".tfrecords", ".record"):
        return f"TFRecord, which is not read; {_EXPORT}"
    if suffix == ".parquet":
        return f"a table in Parquet, which is not read; {_EXPORT}"
    if suffix in PACKED:
        return "a packed file, which is not read; unpack it where it lies"
    if suffix == ".names":
        return (
            "Darknet's list of classes, without a data.yaml; put images and labels into images/ "
            "and labels/, and write a data.yaml with 'names'"
        )
    try:
        if suffix in (".csv", ".tsv"):
            known = _TABLE.search(_first_line(file))
            return f"a table of boxes, which is not read; {_EXPORT}" if known else ""
        if suffix == ".xml":
            known = _CVAT.search(_first_line(file, 20))
            return "CVAT's own XML, which is not read; export as COCO there" if known else ""
        if suffix == ".txt":
            return describe_text(_first_line(file, 5))
        if suffix in _JSON:
            return _describe_json(file)
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeError):
        pass
    return ""


def _describe_json(file: Path) -> str:
    first = _first_line(file)
    if other := describe_other_text(first.encode()):
        return other
    if file.stat().st_size > _MOST_BYTES:
        return ""
    if file.suffix.lower() in _OF_LINES:
        known = _LINE.search(first)
        return f"a file of one JSON object a line, which is not read; {_EXPORT}" if known else ""
    return _describe_tree(msgspec.json.decode(read_json(file)))


def describe_other_text(content: bytes) -> str:
    """Return what a file that should be JSON is instead: a pointer of Git LFS, or a page; or ""."""
    start = content[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS to the file; fetch it with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps the error of a download; download the file again"
    return ""


def _first_line(file: Path, lines: int = 1) -> str:
    with open_regular(file) as stream:
        head = b"".join(stream.readline(10_000) for _ in range(lines))
    return head.decode("utf-8-sig", errors="replace")


def _describe_tree(tree: Any) -> str:
    """Return the format of a JSON file by its keys."""
    if isinstance(tree, list):
        first = next(iter(tree), None)
        return _describe_list(first) if isinstance(first, dict) else ""
    if not isinstance(tree, dict):
        return ""
    for keys, known in _BY_KEYS.items():
        if keys <= tree.keys():
            return known
    inner = (each for each in tree.values() if isinstance(each, dict))
    if any({"filename", "regions"} <= each.keys() for each in islice(inner, 3)):
        return _BY_KEYS[frozenset({"_via_img_metadata"})]
    first = next(iter(tree["annotations"]), None) if _has_list(tree, "annotations") else None
    if isinstance(first, dict) and "caption" in first and "bbox" not in first:
        return "COCO's captions, which have no boxes; name the file of instances"
    return ""


def _has_list(tree: dict[str, Any], key: str) -> bool:
    return isinstance(tree.get(key), list)


def _describe_list(first: dict[str, Any]) -> str:
    """Return the format of a JSON file that is a list, by its first entry."""
    if {"image", "annotations"} <= first.keys():
        return f"CreateML, which is not read; {_EXPORT}"
    values = [each for each in first.values() if isinstance(each, list)]
    regions = [each for value in values for each in value[:1] if isinstance(each, dict)]
    if {"data", "annotations"} <= first.keys() or any("original_width" in each for each in regions):
        return "Label Studio's own JSON, which is not read; export as COCO there"
    if {"file_name", "annotations"} <= first.keys():
        return f"Detectron2's list of images, which is not read; {_EXPORT}"
    if {"shapes", "tracks"} <= first.keys():
        return "a backup of CVAT, which is not read; export as COCO there"
    if {"image_id", "category_id", "score"} <= first.keys():
        return "detections in COCO's layout, no annotations; name the file of annotations"
    if "name" in first and any("box2d" in each or "poly2d" in each for each in regions):
        return f"BDD100K, which is not read; {_EXPORT}"
    return ""
