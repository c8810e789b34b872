"""Fixed COCO copies of annotation files; valid entries stay unchanged, to the last key and digit.

An annotation stays if it was read and has an area inside its image. The data set that was read
gives the fixed values, ids included. Image files are not copied.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from setmatch.data.annotations.rotations import TURNING
from setmatch.data.cache.cache import cached
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.discovery import DiscoveredDataset
from setmatch.data.formats.coco.polygon_notations import as_polygons
from setmatch.data.formats.coco.text_ids import number_of, numbers_of
from setmatch.data.formats.coco.write import coco_tree, polygons
from setmatch.data.own_folder import require_own_folder
from setmatch.data.ragged import unpack
from setmatch.errors import DataError
from setmatch.files.reading import read_json
from setmatch.files.writing import write_text

Record = dict[str, Any]
_SHOWN_LEVELS = 20  # of nested values in changes.json
_ROUNDING_PX = 0.5  # tolerance of boxes at the image's edge, the same as when they are read


@dataclass(frozen=True)
class Change:
    """One change in a fixed copy; `key` is "" if the whole entry was removed."""

    file: str
    entry: str  # such as "images[3]" or "line 7"
    id: Any  # as in the file
    key: str
    before: Any
    after: Any


def write_fixed(data: Path, discovered: DiscoveredDataset, out: Path) -> list[Change]:
    """Write fixed COCO copies of all annotations of a data set to the folder `out`.

    `discovered` are the splits found in `data`. Copies of COCO files lie in `out` as the originals
    lie in `data`, so copying `out` over `data` fixes the data set. Other formats become
    out/annotations/SPLIT.json, with file names relative to the folder of images. out/changes.json
    lists every change. Raises DataError for files that cannot be read, whose boxes are probably of
    another convention, and if a copy would replace its original.
    """
    for part in discovered.parts.values():
        cached(part).require_sound_boxes()
    folders = (data if data.is_dir() else data.parent, discovered.folder)
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise DataError(
            f"{out}: the copies would replace the originals, or be read instead of them; name "
            "another folder"
        )
    require_own_folder(data, out)
    changes: list[Change] = []
    written: set[Path] = set()
    for part in discovered.parts.values():
        is_coco = part.format == "coco" and not part.details  # of several files, one is made
        if is_coco and part.source in written:
            continue
        written.add(part.source)
        place = part.source.name if data.is_file() else part.source.relative_to(data)
        name = Path(place) if is_coco else Path("annotations", f"{part.split}.json")
        dataset = cached(part)
        if is_coco:
            tree = _read(part.source)
        else:
            files = unpack(dataset.names, dataset.name_offsets)
            # Not by msgspec, which refuses names that are not UTF-8.
            tree = json.loads(json.dumps(coco_tree(dataset, files), default=_plain))
            dataset = replace(dataset, origins=np.arange(len(dataset.crowd), dtype=np.int32))
            changes += [_fixed_while_reading(fix) for fix in dataset.fixes]
        fixed, file_changes = fix_coco(tree, dataset, discovered.folder if is_coco else None)
        changes += [Change(str(name), *each) for each in file_changes]
        write_text(out / name, _written(fixed, part.source))
    listed = json.dumps([asdict(change) for change in changes], indent=1, ensure_ascii=False)
    write_text(out / "changes.json", listed)
    return changes


def _read(source: Path) -> Any:
    try:
        return json.loads(read_json(source))
    except RecursionError:
        raise _nested(source) from None


def _written(tree: Record, source: Path) -> str:
    try:
        return json.dumps(tree, ensure_ascii=False)
    except RecursionError:  # what Python reads, it may not write
        raise _nested(source) from None


def _nested(source: Path) -> DataError:
    return DataError(f"{source}: its lists are nested too deeply to be copied; remove such values")


def _plain(encoded: msgspec.Raw) -> Any:
    return json.loads(bytes(encoded))


def _fixed_while_reading(fix: AnnotationFix) -> Change:
    """Return the change that reading a file of another format than COCO made."""
    entry = "" if fix.line is None else f"line {fix.line}"
    return Change(fix.file, entry, fix.annotation, "", fix.value, fix.description)


_FileChange = tuple[str, Any, str, Any, Any]  # a Change without its file


def fix_coco(
    tree: Record, dataset: DetectionDataset, root: Path | None = None
) -> tuple[Record, list[_FileChange]]:
    """Return a fixed copy of a COCO file's content, and the changes.

    `dataset` is what reading the file gave. File names that are not those of the files become paths
    below `root`, the folder of the data set; None leaves them. Reading the copy leaves nothing to
    fix, except for duplicate boxes that are only noted.
    """
    fixed = dict(tree)
    changes: list[_FileChange] = []
    numbers = {key: numbers_of(_ids(tree[key])) for key in ("categories", "images")}
    valid_records: dict[str, dict[int, Record]] = {
        "categories": _categories(dataset),
        "images": _images(dataset, tree["images"], numbers["images"], root),
    }
    for key, by_id in valid_records.items():
        records: list[Record] = []
        for number, record in enumerate(tree[key]):
            valid = by_id.pop(_id(numbers[key], record["id"]), None)
            records += _fix_record(f"{key}[{number}]", record, valid, changes)
        fixed[key] = records
    assert dataset.origins is not None, "readers say where annotations come from"
    row_of = {origin: row for row, origin in enumerate(dataset.origins.tolist())}
    records = []
    for number, record in enumerate(tree["annotations"]):
        valid = _annotation(record, dataset, row_of[number]) if number in row_of else None
        if valid is not None:
            valid["category_id"] = _id(numbers["categories"], record["category_id"])
        records += _fix_record(f"annotations[{number}]", record, valid, changes)
    fixed["annotations"] = records
    return fixed, changes


def _fix_record(
    entry: str, record: Record, valid: Record | None, changes: list[_FileChange]
) -> Iterator[Record]:
    """Yield the record with the `valid` values, nothing if there are none; append the changes."""
    if valid is None:
        changes.append((entry, _to_json(record.get("id")), "", _to_json(record), None))
        return
    result = dict(record)
    for key, value in valid.items():
        before = record.get(key)
        if key in record and type(before) is type(value) and before == value:
            continue
        if value is None:
            del result[key]
        else:
            result[key] = value
        changes.append((entry, record.get("id"), key, _to_json(before), value))
    yield result


def _ids(records: Sequence[Record]) -> list[Any]:
    return [record.get("id") for record in records]


def _id(numbers: Mapping[str, int], written: Any) -> int:
    """Return the id that was read for one as it is in the file, where it may be text."""
    return int(number_of(numbers, written))


def _categories(dataset: DetectionDataset) -> dict[int, Record]:
    names = zip(dataset.categories.ids, dataset.categories.names, strict=True)
    return {id_: {"id": id_, "name": name} for id_, name in names}


def _images(
    dataset: DetectionDataset,
    listed: Sequence[Record],
    numbers: Mapping[str, int],
    root: Path | None,
) -> dict[int, Record]:
    written = {_id(numbers, record["id"]): record.get("file_name") for record in listed}
    images: dict[int, Record] = {}
    for image, id_ in enumerate(dataset.image_ids.tolist()):
        height, width = dataset.size_px(image)
        images[id_] = {"id": id_, "height": height, "width": width}
        if written[id_] != dataset.name(image) and root is not None:
            path = dataset.path(image)
            inside = path.is_relative_to(root)
            name = path.relative_to(root).as_posix() if inside else dataset.name(image)
            images[id_]["file_name"] = name
    return images


def _annotation(record: Record, dataset: DetectionDataset, row: int) -> Record | None:
    """Return the valid values of an annotation; None if its box has no area inside the image."""
    image = int(np.searchsorted(dataset.offsets, row, side="right")) - 1
    height, width = dataset.size_px(image)
    x, y, w, h = dataset.xywh_px[row].tolist()
    if not (w and h and x + w > 0 and y + h > 0 and x < width and y < height):
        return None
    valid: Record = {
        "id": int(dataset.annotation_ids[row]),
        "image_id": int(dataset.image_ids[image]),
        "iscrowd": int(dataset.crowd[row]),
    }
    area = _number(record.get("area"))
    if not (math.isfinite(area) and area >= 0):
        valid["area"] = area = float(dataset.area_px[row])
    box = record.get("bbox")
    written = [*map(_number, box)] if isinstance(box, list) else []
    if [x, y, w, h] != written:  # of another convention, turned, or absent beside polygons
        valid |= {"bbox": [x, y, w, h], "area": float(dataset.area_px[row])}
        area = valid["area"]
    valid |= _without_rotation(record)
    if min(x, y) < -_ROUNDING_PX or x + w > width + _ROUNDING_PX or y + h > height + _ROUNDING_PX:
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
        valid["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        if (x1 - x0) * (y1 - y0) < area:
            valid["area"] = (x1 - x0) * (y1 - y0)
    if "segmentation" in record:
        segmentation = _valid_segmentation(record["segmentation"])
        if isinstance(segmentation, list) and _are_moved(segmentation, dataset, row):
            segmentation = polygons(dataset, row)
        if segmentation != record["segmentation"]:
            valid["segmentation"] = segmentation
    return valid


def _without_rotation(record: Record) -> Record:
    """Return what replaces the rotation of a box that is read as the box around the turned one."""
    valid: Record = {}
    attributes = record.get("attributes")
    if isinstance(attributes, dict):
        kept = {
            key: value
            for key, value in attributes.items()
            if not (key.lower() in TURNING and _is_turned(value))
        }
        if len(kept) < len(attributes):
            valid["attributes"] = kept
    for key in TURNING:
        if _is_turned(record.get(key)):
            valid[key] = None
    return valid


def _is_turned(rotation: Any) -> bool:
    return rotation is not None and not (type(rotation) in (int, float) and rotation == 0)


def _valid_segmentation(value: Any) -> Any:
    """Return the valid polygons of a segmentation, or its run lengths; None if it has neither."""
    if isinstance(value, dict) and "counts" in value and "size" in value:
        return value
    if not isinstance(value, list):
        return None
    value = as_polygons(value) or value
    polygons = [
        polygon
        for polygon in value
        if isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(math.isfinite(_number(coordinate)) for coordinate in polygon)
    ]
    return polygons if polygons or not value else None


def _are_moved(rings: list[list[float]], dataset: DetectionDataset, row: int) -> bool:
    """Return whether polygons were read at another place than the file has them."""
    read = polygons(dataset, row)
    return bool(rings and read) and not np.array_equal(
        np.array(read[0], dtype=np.float32), np.array(rings[0], dtype=np.float32)
    )


def _number(value: Any) -> float:
    """Return a JSON value as a float; NaN if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _to_json(value: Any, levels: int = _SHOWN_LEVELS) -> Any:
    """Return a value that JSON can express: NaN, infinities and what lies deep become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if not levels and isinstance(value, dict | list):
        return "..."
    if isinstance(value, dict):
        return {key: _to_json(inner, levels - 1) for key, inner in value.items()}
    return [_to_json(inner, levels - 1) for inner in value] if isinstance(value, list) else value
