"""Read COCO JSON: fix what is clearly meant, record each fix, refuse what is ambiguous.

Fixed here, besides the boxes (see cleaning.py): annotations of images that are not listed, absent
iscrowd, area or image size, numbers and ids written as text, entries listed twice, class names
used twice.
Refused: anything that could teach the wrong thing, such as a category that is not listed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from setmatch.data.annotations.box_convention import BoxConvention
from setmatch.data.annotations.cleaning import NO_ID, NO_LINE, AnnotationTable
from setmatch.data.annotations.segmentations import (
    Segmentations,
    from_rings,
    parse_segmentations,
    run_lengths_flaw,
)
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.base import WHOLE
from setmatch.data.formats.build import ImageTable, assemble
from setmatch.data.formats.class_names import clean_name
from setmatch.data.formats.coco.boxes import (
    fill_boxes,
    in_convention,
    rotations,
    turn,
    without_boxless,
    written_boxes,
)
from setmatch.data.formats.coco.fast_read import parse_flawless
from setmatch.data.formats.coco.layout import default_root, image_folders
from setmatch.data.formats.coco.polygon_notations import rewrite_polygons
from setmatch.data.formats.coco.schema import InstancesFile, collector_paused, parse
from setmatch.data.formats.coco.text_ids import number_text_ids
from setmatch.data.formats.columns import Records, as_integer
from setmatch.data.formats.locate_images import LocatedImages, SearchArea
from setmatch.data.formats.missing_images import UNREADABLE, drop_missing
from setmatch.data.formats.other_suffixes import locate_photographs
from setmatch.data.images.decoding import read_size_px
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile
from setmatch.data.splits import split_in
from setmatch.errors import DataError, short
from setmatch.structures.metadata import Categories

# Other keys for the file's name than "file_name", likeliest first.
_OTHER_NAMES = ("filename", "path", "name", "file", "image", "coco_url", "url", "flickr_url")


def read_coco(
    annotations: str | Path,
    images: str | Path | None = None,
    root: str | Path | None = None,
    split: str | None = None,
    boxes: BoxConvention | None = None,
) -> DetectionDataset:
    """Read COCO instances. Class indices are the categories in order of their ids.

    `images` is the folder of the image files; None looks for them in `root`, the folder of the data
    set, which defaults to a place near the annotations. `split` decides which of its folders belong
    to other splits. `boxes` is the convention of the boxes, if it is known not to be COCO's own, or
    to be it. Raises DataError with file, place, value and problem when the file cannot be read, is
    ambiguous, or many image files are missing. `fixes` of the result lists what was fixed.
    """
    source = Path(annotations)
    area = search_area(source, images, root, split)
    with collector_paused():
        dataset = _read_flawless(source, area, boxes)
        return _read_any(source, area, boxes) if dataset is None else dataset


def search_area(
    source: Path,
    images: str | Path | None = None,
    root: str | Path | None = None,
    split: str | None = None,
) -> SearchArea:
    """Return where the images of a COCO file may be, for the arguments of `read_coco`."""
    if images is not None:
        return SearchArea(Path(images), (Path(images),), Path(images))
    top = default_root(source) if root is None else Path(root)
    split = split_in(source.stem) if split in (None, WHOLE) else split
    return SearchArea(top, tuple(image_folders(source, top)), source.parent, split)


def _read_flawless(
    source: Path, area: SearchArea, boxes: BoxConvention | None
) -> DetectionDataset | None:
    """Read a file in which every annotation has COCO's form; return None for any other.

    Values may still be odd: boxes are cleaned afterwards.
    """
    parsed = parse_flawless(source)
    if parsed is None:
        return None
    fixes: list[AnnotationFix] = []
    category_records, image_records, columns = parsed
    categories = read_categories(category_records, fixes)
    image_table = read_images(image_records, area, fixes)
    image = _positions(columns.image_ids, image_table.ids)
    class_index = _positions(columns.category_ids, np.array(categories.ids, dtype=np.int64))
    sizes_px = {row: image_table.sizes_px[image[row]].tolist() for row in columns.run_lengths}
    if (class_index < 0).any() or any(
        run_lengths_flaw(text, sizes_px[row])
        for row, text in columns.run_lengths.items()
        if image[row] >= 0
    ):
        return None
    count = len(columns.ids)
    rows = AnnotationTable(
        columns.ids,
        image,
        class_index,
        columns.xywh_px,
        columns.area_px,
        columns.crowd,
        np.full(count, NO_LINE, dtype=np.int64),
        np.arange(count),
    )
    _require_own_ids(source, columns.image_ids, image_table)
    rows = _drop_unlisted(rows, columns.image_ids, image_table, fixes)
    segmentations = from_rings(
        columns.points_px,
        columns.points_per_ring,
        columns.rings_per_annotation,
        columns.run_lengths,
    )
    written = written_boxes(rows, count, boxes)
    rows, segmentations = in_convention(rows, segmentations, image_table.sizes_px, boxes)
    return assemble(source, image_table, categories, rows, segmentations, fixes, written=written)


def _read_any(source: Path, area: SearchArea, boxes: BoxConvention | None) -> DetectionDataset:
    """Read any file value by value, which locates every problem."""
    fixes: list[AnnotationFix] = []
    lists = parse(source, InstancesFile)
    number_text_ids(lists, fixes)
    return read_lists(source, lists, area, boxes, fixes)


def read_lists(
    source: Path,
    lists: Mapping[str, Records],
    area: SearchArea,
    boxes: BoxConvention | None,
    fixes: list[AnnotationFix],
) -> DetectionDataset:
    """Return the data set of the lists of a COCO file, whose ids are numbers."""
    categories = read_categories(lists["categories"], fixes)
    image_table = read_images(lists["images"], area, fixes)
    records = lists["annotations"]
    rewrite_polygons(records, fixes)
    missing = fill_boxes(records, image_table.size_px_by_id(), boxes, fixes)
    rows = read_rows(records, image_table, categories, fixes)
    count = len(rows.ids)
    rows = without_boxless(rows, missing, image_table.names, fixes)
    segmentations = _segmentations(records, rows, image_table, fixes)
    written = written_boxes(rows, len(records), boxes)
    rows, segmentations = in_convention(rows, segmentations, image_table.sizes_px, boxes)
    turns = rotations(records, rows, image_table.names, fixes)
    rows = turn(rows, segmentations, turns, image_table, fixes)
    dataset = assemble(source, image_table, categories, rows, segmentations, fixes, written=written)
    return replace(dataset, annotations_read=count)


def read_categories(records: Records, fixes: list[AnnotationFix]) -> Categories:
    """Return the classes of a COCO file; raises DataError where two classes share an id."""
    if not len(records):
        raise DataError(f"{records.file}: lists no categories; list at least one class")
    ids = _integers(records, "id", fixes).tolist()
    names: dict[int, str] = {}
    for record in records.rows:
        if type(record.name) is int:  # such as the digits 0 to 9
            record.name = str(record.name)
    written = records.texts("name")
    cleaned = [clean_name(name) for name in written]
    blank = [position for position, name in enumerate(cleaned) if name != written[position]]
    if blank:
        first = f"{len(blank)} classes, the first {short(written[blank[0]])}"
        fixes.append(AnnotationFix.of_many(first, "blanks at the ends of a class name: removed"))
    for position, (id_, name) in enumerate(zip(ids, cleaned, strict=True)):
        if not name:
            value = short(written[position])
            raise records.error(position, f"'name' is {value}; it should be a non-empty string")
        if names.setdefault(id_, name) != name:
            shown, other = short(name, 200), short(names[id_], 200)
            problem = f"{shown} has the category id of {other}; give each its own"
            raise records.error(position, problem)
    first_position = {id_: position for position, id_ in reversed(list(enumerate(ids)))}
    for position in sorted(set(range(len(ids))) - set(first_position.values())):
        value = f"{records.place_of(position)} {short(names[ids[position]], 200)}"
        fixes.append(AnnotationFix.of_many(value, "listed twice: read once"))
    renamed = _apart(names)
    for id_, name in renamed.items():
        done = "name of another category: given a new one"
        value = f"category {id_} {short(names[id_], 200)} -> {short(name, 200)}"
        fixes.append(AnnotationFix.of_many(value, done))
    names |= renamed
    return Categories(tuple(sorted(names)), tuple(names[id_] for id_ in sorted(names)))


def _apart(names: Mapping[int, str]) -> dict[int, str]:
    """Return new names of the categories that have the name of one with a lower id.

    Detections are reported by class name, so that names must differ.
    """
    taken, used = set(names.values()), set[str]()
    numbers: dict[str, Iterator[int]] = {}
    renamed = {}
    for id_, name in sorted(names.items()):
        if name in used:
            free = (f"{name} ({number})" for number in numbers.setdefault(name, count(2)))
            renamed[id_] = next(each for each in free if each not in taken)
            taken.add(renamed[id_])
        used.add(renamed.get(id_, name))
    return renamed


def read_images(records: Records, area: SearchArea, fixes: list[AnnotationFix]) -> ImageTable:
    """Return the images of a COCO file that have a usable file and a known size.

    A few others are left out and recorded in `fixes`. Raises DataError where they are many, or
    two images share an id.
    """
    distinct = distinct_images(records, fixes)
    sides_px = [_integers(records, key, fixes, missing=0) for key in ("height", "width")]
    kept, ids, names = distinct.positions, distinct.ids, distinct.names
    located = locate_photographs(names, area)
    fixes += located.fixes
    sizes_px, absent, unread = _sizes_px(names, located, np.stack(sides_px, axis=1)[kept], fixes)
    drop_missing(located.root, list(absent.values()), len(names), fixes, located.advice)
    usable = np.array([position not in absent for position in range(len(names))], dtype=bool)
    return ImageTable(
        located.root,
        ids[usable],
        [name for name, keep in zip(located.names, usable, strict=True) if keep and name],
        sizes_px[usable].astype(np.int32),
        frozenset(ids[~usable].tolist()),
        located.notes,
        tuple(unread),
    )


@dataclass(frozen=True)
class DistinctImages:
    """The images of a list, each once: its position in the list, id and file name."""

    positions: Int64[np.ndarray, " N"]
    ids: Int64[np.ndarray, " N"]
    names: list[str]


def distinct_images(records: Records, fixes: list[AnnotationFix]) -> DistinctImages:
    """Return the images of a list once, which may repeat them.

    Raises DataError where there are none, or two share an id.
    """
    if not len(records):
        raise DataError(f"{records.file}: lists no images; list at least one, or name another file")
    ids = _integers(records, "id", fixes)
    names = _file_names(records, fixes)
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    original = first[inverse]
    for position in np.flatnonzero(original != np.arange(len(ids))).tolist():
        other = names[original[position]]
        if names[position] != other:
            shown, taken = short(names[position], 200), short(other, 200)
            problem = f"{shown} has the image id of {taken}; give each its own"
            raise records.error(position, problem)
        fixes.append(
            AnnotationFix(other, None, f"image {ids[position]}", "listed twice: read once")
        )
    kept = np.sort(first)
    return DistinctImages(kept, ids[kept], [names[position] for position in kept.tolist()])


def _file_names(records: Records, fixes: list[AnnotationFix]) -> list[str]:
    """Return the name of each image's file, from another key where there is no `file_name`."""
    names: list[Any] = records.values("file_name")
    for key in _OTHER_NAMES:
        lacking = [position for position, name in enumerate(names) if not name]
        if not lacking:
            break
        others = records.values(key)
        taken = [position for position in lacking if isinstance(others[position], str)]
        for position in taken:
            names[position] = others[position]
        if taken:
            value = records.describe("file_name", taken)
            fixes.append(AnnotationFix.of_many(value, f"absent: read from {key!r}"))
    return records.paths("file_name", names)


def _sizes_px(
    written: list[str],
    located: LocatedImages,
    sizes_px: Int64[np.ndarray, "N 2"],
    fixes: list[AnnotationFix],
) -> tuple[Int64[np.ndarray, "N 2"], dict[int, AnnotationFix], list[UnreadableFile]]:
    """Return all image sizes, from the file where none is annotated, and the unusable images.

    Those whose file cannot be read are returned once more, with the reason.
    """
    absent = {
        position: AnnotationFix(
            written[position], None, written[position], located.why_absent(position)
        )
        for position, name in enumerate(located.names)
        if name is None
    }
    unread = []
    wrong = (sizes_px < 1).any(axis=1) | (sizes_px >= 2**31).any(axis=1)
    for position in np.flatnonzero(wrong).tolist():
        name = located.names[position]
        if name is None:
            continue
        value = "height {}, width {}".format(*sizes_px[position].tolist())
        try:
            sizes_px[position] = read_size_px(located.root / name)
        except UnreadableError as error:
            absent[position] = AnnotationFix(name, None, name, UNREADABLE)
            unread.append(error.file)
        else:
            fixes.append(AnnotationFix(name, None, value, "size read from the image file"))
    return sizes_px, absent, unread


def read_rows(
    records: Records, image_table: ImageTable, categories: Categories, fixes: list[AnnotationFix]
) -> AnnotationTable:
    """Return the annotations of listed images; raises DataError for unknown categories."""
    image_ids = _integers(records, "image_id", fixes)
    image = _positions(image_ids, image_table.ids)
    ids = _integers(records, "id", fixes, missing=NO_ID)
    class_index = _positions(
        _integers(records, "category_id", fixes), np.array(categories.ids, dtype=np.int64)
    )
    for position in np.flatnonzero(class_index < 0).tolist():
        unknown = records.rows[position].category_id
        raise records.error(
            position,
            f"category_id {unknown} is none of the {len(categories)} categories; list the "
            "category, or correct or remove the annotation",
        )
    xywh_px = records.quadruples("bbox")
    area_px = _areas_px(records, xywh_px, fixes)
    lines = np.full(len(ids), NO_LINE, dtype=np.int64)
    origin = np.arange(len(ids))
    crowd = _crowd(records, fixes)
    _require_own_ids(records.file, image_ids, image_table)
    rows = AnnotationTable(ids, image, class_index, xywh_px, area_px, crowd, lines, origin)
    return _drop_unlisted(rows, image_ids, image_table, fixes)


def _require_own_ids(
    source: Path, image_ids: Int64[np.ndarray, " A"], image_table: ImageTable
) -> None:
    """Raise DataError where annotations count images from 0 and the list from 1, or vice versa.

    Each box would be that of its image's neighbor. All but one of the numbers look right.
    """
    listed = np.union1d(image_table.ids, np.array(list(image_table.absent), dtype=np.int64))
    used = np.unique(image_ids)
    if len(used) < 2 or len(listed) != listed[-1] - listed[0] + 1:
        return
    first, last = int(listed[0]), int(listed[-1])
    unlisted = np.setdiff1d(used, listed).tolist()
    for begin, name, unused in ((1, 0, last), (0, last + 1, 0)):
        if first == begin and unlisted == [name] and unused not in used:
            raise DataError(
                f"{source}: annotations name image {name}, which is not listed, and none names "
                f"image {unused}: do they count images from {1 - begin}, and the list from "
                f"{begin}? Correct every image_id if so, or remove the annotations of image {name}"
            )


def _drop_unlisted(
    rows: AnnotationTable,
    image_ids: Int64[np.ndarray, " A"],
    image_table: ImageTable,
    fixes: list[AnnotationFix],
) -> AnnotationTable:
    for position in np.flatnonzero(rows.image < 0).tolist():
        id_ = None if rows.ids[position] == NO_ID else int(rows.ids[position])
        absent = int(image_ids[position]) in image_table.absent
        why = "of an image without a usable file" if absent else "of an image that is not listed"
        value = f"image_id {image_ids[position]}"
        if id_ is None:  # without an id, the position alone locates it
            value += f" of annotations[{rows.origin[position]}]"
        fixes.append(AnnotationFix("", id_, value, f"{why}: left out"))
    return rows.take(rows.image >= 0)


def _areas_px(
    records: Records, xywh_px: Float64[np.ndarray, "A 4"], fixes: list[AnnotationFix]
) -> Float64[np.ndarray, " A"]:
    areas_px = records.numbers("area")
    wrong = ~np.isfinite(areas_px) | (areas_px < 0)
    if wrong.any():
        with np.errstate(over="ignore"):  # huge boxes are cleaned later
            areas_px[wrong] = xywh_px[wrong, 2:].prod(axis=1)
        value = records.describe("area", np.flatnonzero(wrong).tolist())
        fixes.append(AnnotationFix.of_many(value, "absent or no number: width × height"))
    return areas_px


def _crowd(records: Records, fixes: list[AnnotationFix]) -> Bool[np.ndarray, " A"]:
    values = records.values("iscrowd")
    if set(map(type, values)) - {int} or set(values) - {0, 1}:
        written, values = values, list(map(_flag, values))
        for position, (before, value) in enumerate(zip(written, values, strict=True)):
            if before is not None and value is None:
                raise records.error(position, f"'iscrowd' is {short(before)}; it should be 0 or 1")
    absent = [position for position, value in enumerate(values) if value is None]
    if absent:
        fixes.append(
            AnnotationFix.of_many(records.describe("iscrowd", absent), "absent: read as 0")
        )
    return np.array(values, dtype=bool)


def _flag(value: object) -> bool | None:
    """Return a flag that may be written as text, as 1.0 or as a word; None for anything else."""
    if isinstance(value, str):
        value = {"false": 0, "true": 1}.get(value.strip().lower(), as_integer(value.strip()))
    is_flag = isinstance(value, int | float) and value in (0, 1)
    return bool(value) if is_flag else None


def _integers(
    records: Records, key: str, fixes: list[AnnotationFix], missing: int | None = None
) -> Int64[np.ndarray, " R"]:
    column = records.integers(key, missing)
    if column.rewritten:
        value = records.describe(key, column.rewritten)
        fixes.append(AnnotationFix.of_many(value, "written as text or fraction: read as integer"))
    return column.values


def _positions(
    ids: Int64[np.ndarray, " A"], known: Int64[np.ndarray, " K"]
) -> Int64[np.ndarray, " A"]:
    """Return the position of each id among the known ids; -1 for an unknown id."""
    order = np.argsort(known)
    rank = np.searchsorted(known, ids, sorter=order).clip(max=len(known) - 1)
    position = order[rank]
    return np.where(known[position] == ids, position, -1)


def _segmentations(
    records: Records, rows: AnnotationTable, image_table: ImageTable, fixes: list[AnnotationFix]
) -> Segmentations | None:
    """Return the segmentations of all records; those of `rows` are checked and fixes recorded."""

    def row_of(record: int) -> int | None:
        row = int(np.searchsorted(rows.origin, record))
        return row if row < len(rows.origin) and rows.origin[row] == record else None

    def note(record: int, value: str, done: str) -> None:
        row = row_of(record)
        if row is not None:
            id_ = None if rows.ids[row] == NO_ID else int(rows.ids[row])
            fixes.append(AnnotationFix(image_table.names[rows.image[row]], id_, value, done))

    def size_px_of(record: int) -> tuple[int, int] | None:
        row = row_of(record)
        if row is None:
            return None
        height, width = image_table.sizes_px[rows.image[row]].tolist()
        return height, width

    return parse_segmentations(records.values("segmentation"), note, size_px_of)
