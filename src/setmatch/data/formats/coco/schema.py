"""Parse the text of a COCO JSON file into records that hold only the keys we need.

msgspec parses plain JSON quickly. Text that it refuses goes to Python's own parser, which also
accepts NaN, byte order marks and numbers of any length, and which locates errors.
"""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from setmatch.data.formats.columns import Records
from setmatch.data.formats.repeated_keys import refuse_repeated_keys
from setmatch.data.formats.unread_formats import describe_other_text
from setmatch.errors import DataError
from setmatch.files.reading import read_json

NO_SEGMENTATION = msgspec.Raw(b"")


class CategoryRecord(msgspec.Struct, gc=False):
    """A class; absent keys are None."""

    id: Any = None
    name: Any = None
    isthing: Any = None


class ImageRecord(msgspec.Struct, gc=False):
    """An image; absent keys are None. The last eight may stand in for `file_name`."""

    id: Any = None
    file_name: Any = None
    height: Any = None
    width: Any = None
    filename: Any = None
    path: Any = None
    name: Any = None
    file: Any = None
    image: Any = None
    coco_url: Any = None
    url: Any = None
    flickr_url: Any = None


class AnnotationRecord(msgspec.Struct, gc=False):
    """An object; absent keys are None. The segmentation stays JSON: it is 90% of the text."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None
    segmentation: msgspec.Raw = NO_SEGMENTATION
    attributes: Any = None
    rotation: Any = None
    angle: Any = None


class SegmentedImageRecord(msgspec.Struct, gc=False):
    """The segments of one image of a panoptic file; absent keys are None."""

    image_id: Any = None
    file_name: Any = None
    segments_info: Any = None


class InstancesFile(msgspec.Struct):
    """The lists of a COCO instances file."""

    images: list[ImageRecord]
    categories: list[CategoryRecord]
    annotations: list[AnnotationRecord]


class PanopticFile(msgspec.Struct):
    """The lists of a COCO panoptic file."""

    images: list[ImageRecord]
    categories: list[CategoryRecord]
    annotations: list[SegmentedImageRecord]


Kind = TypeVar("Kind", InstancesFile, PanopticFile)
_RECORDS: dict[type, dict[str, type]] = {
    InstancesFile: {
        "images": ImageRecord,
        "categories": CategoryRecord,
        "annotations": AnnotationRecord,
    },
    PanopticFile: {
        "images": ImageRecord,
        "categories": CategoryRecord,
        "annotations": SegmentedImageRecord,
    },
}


def parse(source: Path, kind: type[Kind]) -> dict[str, Records]:
    """Return the lists of a COCO JSON file by their keys.

    Raises DataError when the file cannot be read or is not an object with these lists.
    """
    try:
        text = read_json(source)
    except OSError as error:
        raise DataError(
            f"{source}: cannot be read ({error.strerror or error}); name a readable file"
        ) from None
    try:
        tree = msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        lists = _parse_slowly(source, text, kind)
    else:
        lists = {key: Records(source, key, getattr(tree, key)) for key in _RECORDS[kind]}
    refuse_repeats(source, text, len(lists["annotations"]) if kind is InstancesFile else None)
    return lists


def refuse_repeats(source: Path, text: bytes, boxes: int | None) -> None:
    """Raise DataError where a COCO file has a key twice in one object.

    `boxes` is the number of annotations, None where other objects have boxes too.
    """
    most = {"images": 1, "annotations": 1, "categories": 1}
    refuse_repeated_keys(source, text, most if boxes is None else most | {"bbox": boxes})


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which would scan millions of new objects over and over."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parse_slowly(source: Path, text: bytes, kind: type) -> dict[str, Records]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        if other := describe_other_text(text):
            raise DataError(f"{source}: looks like {other}") from None
        if isinstance(error, UnicodeDecodeError):
            raise DataError(f"{source}: not UTF-8 text ({reason}); save it as UTF-8") from None
        raise DataError(
            f"{source}: not valid JSON, perhaps cut short ({reason}); copy or export it again"
        ) from None
    if not isinstance(tree, dict):
        raise DataError(
            f"{source}: holds a {type(tree).__name__}; it should be a COCO object with the lists "
            "'images', 'annotations' and 'categories'"
        )
    annotations = tree.get("annotations")
    for record in annotations if isinstance(annotations, list) else ():
        if isinstance(record, dict) and "segmentation" in record:
            record["segmentation"] = _raw(record["segmentation"])
    return {key: Records.of(source, tree, key, record) for key, record in _RECORDS[kind].items()}


def _raw(value: Any) -> msgspec.Raw:
    """Return a value as JSON; a value nested too deeply to be written is no segmentation anyway."""
    try:
        return msgspec.Raw(json.dumps(value).encode())
    except RecursionError:
        return msgspec.Raw(b'"nested too deeply"')
