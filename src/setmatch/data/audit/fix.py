"""A mended COCO copy of annotations: what was sound stays as it was, to the last key and digit.

An annotation stays if the index has it with an area inside its image; the index knows its id, and
whatever else was repaired. The image files are not copied.
"""

import json
import math
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from setmatch.data.audit.statistics import images_of
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.discovery import discover_dataset
from setmatch.data.formats.coco.write import coco_tree
from setmatch.data.formats.registry import format_named
from setmatch.data.ragged import unpack
from setmatch.errors import DataError
from setmatch.files import whole_file

Record = dict[str, Any]
_ROUNDING_PX = 0.5  # boxes may pass the edge by this much, as when they are read


@dataclass(frozen=True)
class Change:
    """One change of a mended copy; `key` is "" when the whole entry was left out."""

    file: str
    entry: str  # "images[3]", or "line 7"
    id: Any  # as the file has it
    key: str
    before: Any
    after: Any


def write_mended(data: Path, out: Path, format: str | None = None) -> list[Change]:
    """Write a mended COCO copy of all annotations of a data set into folder `out`.

    Copies of COCO files lie in `out` as the originals in `data`, so that copying `out` over `data`
    mends it; of other formats they are out/annotations/SPLIT.json, with the images named from
    where the index found them. out/changes.json lists every change. Raises DataError for files
    that cannot be read, and where a copy would replace its original.
    """
    found = discover_dataset(data, format)
    places = (data if data.is_dir() else data.parent, found.folder)
    if out.resolve() in [place.resolve() for place in places]:
        raise DataError(
            f"{out}: the copies would replace the originals, or be read instead of them; name "
            "another folder"
        )
    changes: list[Change] = []
    done: set[Path] = set()
    for part in found.parts.values():
        copied = part.format == "coco"
        if copied and part.source in done:
            continue
        done.add(part.source)
        place = part.source.name if data.is_file() else part.source.relative_to(data)
        name = Path(place) if copied else Path("annotations", f"{part.split}.json")
        index = format_named(part.format).read(part)
        if copied:
            tree = json.loads(part.source.read_bytes())
        else:
            files = unpack(index.names, index.name_offsets)
            tree = json.loads(msgspec.json.encode(coco_tree(index, files)))
            changes += [_reading(repair) for repair in index.fixes]
        mended, changed = mend(tree, index)
        changes += [Change(str(name), *each) for each in changed]
        with whole_file(out / name) as aside:
            aside.write_text(json.dumps(mended, ensure_ascii=False), encoding="utf-8")
    with whole_file(out / "changes.json") as aside:
        listed = json.dumps([asdict(change) for change in changes], indent=1, ensure_ascii=False)
        aside.write_text(listed, encoding="utf-8")
    return changes


def _reading(repair: AnnotationFix) -> Change:
    """Return what reading a file that is no COCO JSON already changed."""
    entry = "" if repair.line is None else f"line {repair.line}"
    return Change(repair.file, entry, repair.annotation, "", repair.value, repair.done)


_Changed = tuple[str, Any, str, Any, Any]


def mend(tree: Record, index: DetectionDataset) -> tuple[Record, list[_Changed]]:
    """Return the tree of a COCO file without what its index repaired, and what was changed.

    Reading the result again leaves nothing to repair, but for boxes that only stand twice.
    """
    mended = dict(tree)
    changes: list[_Changed] = []
    wanted: dict[str, dict[int, Record]] = {
        "categories": _categories(index),
        "images": _images(index),
    }
    for key, known in wanted.items():
        kept: list[Record] = []
        for number, record in enumerate(tree[key]):
            sound = known.pop(int(record["id"]), None)
            kept += _changed(f"{key}[{number}]", record, sound, changes)
        mended[key] = kept
    annotations = tree["annotations"]
    rows = _rows_of(annotations, index)
    kept = []
    for number, (record, row) in enumerate(zip(annotations, rows, strict=True)):
        sound = None if row is None else _annotation(record, index, row)
        kept += _changed(f"annotations[{number}]", record, sound, changes)
    mended["annotations"] = kept
    return mended, changes


def _changed(
    entry: str, record: Record, sound: Record | None, changes: list[_Changed]
) -> Iterator[Record]:
    """Yield the record with what must be sound in it, unless it is left out; note what changed."""
    if sound is None:
        changes.append((entry, _plain(record.get("id")), "", _plain(record), None))
        return
    result = dict(record)
    for key, value in sound.items():
        before = record.get(key)
        if key in record and type(before) is type(value) and before == value:
            continue
        if value is None:
            del result[key]
        else:
            result[key] = value
        changes.append((entry, record.get("id"), key, _plain(before), value))
    yield result


def _categories(index: DetectionDataset) -> dict[int, Record]:
    names = zip(index.categories.ids, index.categories.names, strict=True)
    return {id_: {"id": id_, "name": name} for id_, name in names}


def _images(index: DetectionDataset) -> dict[int, Record]:
    sizes = zip(index.image_ids.tolist(), index.sizes_px.tolist(), strict=True)
    return {id_: {"id": id_, "height": height, "width": width} for id_, (height, width) in sizes}


def _rows_of(annotations: Sequence[Record], index: DetectionDataset) -> list[int | None]:
    """Return the row of the index that each annotation became, None where it became none.

    Rows of an image are in the order of the file. The ids decide first, because entries that agree
    in everything else may differ in what no index holds.
    """
    image_ids = index.image_ids[images_of(index)].tolist()
    category_ids = np.array(index.categories.ids)[index.class_indices].tolist()
    boxes = map(tuple, index.xywh_px.tolist())
    keys = list(zip(image_ids, category_ids, boxes, index.crowd.tolist(), strict=True))
    named: dict[Any, int] = {
        (key, id_): row
        for row, (key, id_) in enumerate(zip(keys, index.annotation_ids.tolist(), strict=True))
    }
    said = [_key(record) for record in annotations]
    rows = [
        named.pop((key, None if record.get("id") is None else int(record["id"])), None)
        for key, record in zip(said, annotations, strict=True)
    ]
    nameless: dict[Any, deque[int]] = defaultdict(deque)
    for (key, _), row in named.items():
        nameless[key].append(row)
    for number, key in enumerate(said):
        if rows[number] is None and nameless.get(key):
            rows[number] = nameless[key].popleft()
    return rows


def _key(record: Record) -> Any:
    box = tuple(map(_number, record["bbox"]))
    crowd = bool(record.get("iscrowd") or 0)
    return int(record["image_id"]), int(record["category_id"]), box, crowd


def _annotation(record: Record, index: DetectionDataset, row: int) -> Record | None:
    """Return the keys of an annotation that must be sound; None when its box shows nothing."""
    image = int(np.searchsorted(index.offsets, row, side="right")) - 1
    height, width = index.size_px(image)
    x, y, w, h = index.xywh_px[row].tolist()
    if not (w and h and x + w > 0 and y + h > 0 and x < width and y < height):
        return None
    sound: Record = {
        "id": int(index.annotation_ids[row]),
        "image_id": int(index.image_ids[image]),
        "category_id": int(record["category_id"]),
        "iscrowd": int(index.crowd[row]),
    }
    area = _number(record.get("area"))
    if not (math.isfinite(area) and area >= 0):
        sound["area"] = area = float(index.area_px[row])
    if min(x, y) < -_ROUNDING_PX or x + w > width + _ROUNDING_PX or y + h > height + _ROUNDING_PX:
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
        sound["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        if (x1 - x0) * (y1 - y0) < area:
            sound["area"] = (x1 - x0) * (y1 - y0)
    if "segmentation" in record:
        outline = _outline(record["segmentation"])
        if outline != record["segmentation"]:
            sound["segmentation"] = outline
    return sound


def _outline(value: Any) -> Any:
    """Return the polygons of an outline that are whole, or its run lengths; None for neither."""
    if isinstance(value, dict) and "counts" in value and "size" in value:
        return value
    if not isinstance(value, list):
        return None
    whole = [
        ring
        for ring in value
        if isinstance(ring, list)
        and len(ring) >= 6
        and len(ring) % 2 == 0
        and all(math.isfinite(_number(side)) for side in ring)
    ]
    return whole if whole or not value else None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _plain(value: Any) -> Any:
    """Return a value as JSON can say it, with the numbers that are none as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
