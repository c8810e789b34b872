"""Read COCO panoptic JSON: the boxes of all segments, and the PNG files that hold their pixels.

Images and segments are paired by image id, not by their order in the lists.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from setmatch.data.annotations.box_convention import BoxConvention
from setmatch.data.annotations.cleaning import NO_ID
from setmatch.data.dataset import AnnotationFix, DetectionDataset, PanopticFiles
from setmatch.data.formats.build import ImageTable, assemble
from setmatch.data.formats.coco.boxes import in_convention, written_boxes
from setmatch.data.formats.coco.read import (
    read_categories,
    read_images,
    read_rows,
    search_area,
)
from setmatch.data.formats.coco.schema import AnnotationRecord, PanopticFile, parse
from setmatch.data.formats.columns import Records
from setmatch.data.formats.locate_images import LocatedImages, SearchArea, locate_images
from setmatch.data.formats.missing_images import UNDRAWN, drop_missing
from setmatch.data.ragged import pack
from setmatch.errors import DataError, short


def read_panoptic(
    annotations: str | Path,
    images: str | Path | None = None,
    root: str | Path | None = None,
    split: str | None = None,
    boxes: BoxConvention | None = None,
) -> DetectionDataset:
    """Read COCO panoptic annotations: things and stuff are classes, segments have the file's boxes.

    `panoptic` of the result holds the PNG file of each image and the segment id of each annotation.
    Annotation ids count from 1, because segment ids are unique only within an image. Images for
    which no segments are listed are left out, and so are a few images whose PNG file is missing.
    The arguments are those of `read_coco`. Raises DataError as that does, and where many PNG files
    are missing.
    """
    source = Path(annotations)
    area = search_area(source, images, root, split)
    lists = parse(source, PanopticFile)
    fixes: list[AnnotationFix] = []
    categories = read_categories(lists["categories"], fixes)
    stuff = _stuff(lists["categories"], categories.ids, fixes)
    categories = replace(categories, stuff=stuff)
    image_table = read_images(lists["images"], area, fixes)
    records = lists["annotations"]
    folder, image_table, pngs = _pair(source, image_table, records, fixes)
    segments = _segments(records)
    rows = read_rows(segments, image_table, categories, fixes)
    segment_ids = rows.ids
    if (segment_ids == NO_ID).any():
        culprit = int(rows.origin[np.flatnonzero(segment_ids == NO_ID)[0]])
        raise segments.error(culprit, "has no 'id'; it should be the segment's color in the PNG")
    for flaw, wrong in _id_flaws(rows.image, segment_ids):
        if wrong.any():
            raise segments.error(int(rows.origin[wrong.argmax()]), flaw)
    origin, rows = rows.origin, replace(rows, ids=np.arange(1, len(rows.ids) + 1))
    written = written_boxes(rows, len(segments), boxes)
    rows, _ = in_convention(rows, None, image_table.sizes_px, boxes)
    dataset = assemble(source, image_table, categories, rows, None, fixes, written=written)
    kept = np.searchsorted(origin, origin[dataset.annotation_ids - 1])
    names, name_offsets = pack(pngs)
    files = PanopticFiles(
        folder=folder,
        names=names,
        name_offsets=name_offsets,
        segment_ids=segment_ids[kept],
    )
    return replace(dataset, panoptic=files)


def _pair(
    source: Path, image_table: ImageTable, records: Records, fixes: list[AnnotationFix]
) -> tuple[Path, ImageTable, list[str]]:
    """Return the folder of the PNG files, the images that have one, and the name of each PNG."""
    image_ids = records.integers("image_id").values.tolist()
    names = records.texts("file_name")
    png: dict[int, str] = {}
    for position, (image_id, name) in enumerate(zip(image_ids, names, strict=True)):
        if image_id in png:
            before = "" if png[image_id] == name else f", with the PNG {short(png[image_id])} too"
            raise records.error(position, f"image {image_id} is listed twice{before}; keep one")
        png[image_id] = name
    has = np.array([image_id in png for image_id in image_table.ids.tolist()], dtype=bool)
    if not has.any():
        annotated, listed = (
            str(next(iter(ids), "none")) for ids in (png, image_table.ids.tolist())
        )
        raise DataError(
            f"{records.file}: no annotation belongs to any of the listed images; the first "
            f"annotation's image_id is {annotated}, the first image's id {listed}; make them agree"
        )
    for position in np.flatnonzero(~has).tolist():
        done = "no segments listed: image left out"
        fixes.append(
            AnnotationFix(
                image_table.names[position], None, f"image {image_table.ids[position]}", done
            )
        )
    image_table = _take(image_table, has)
    located = _png_files(source, [png[image_id] for image_id in image_table.ids.tolist()])
    fixes += located.fixes
    there = np.array([name is not None for name in located.names], dtype=bool)
    absent = [
        AnnotationFix(
            image_table.names[position], None, png[int(image_table.ids[position])], UNDRAWN
        )
        for position in np.flatnonzero(~there).tolist()
    ]
    drop_missing(located.root, absent, len(there), fixes)
    pngs = [name for name in located.names if name is not None]
    return located.root, _take(image_table, there), pngs


def _take(image_table: ImageTable, chosen: Bool[np.ndarray, " N"]) -> ImageTable:
    """Return the chosen images; the others count as images without a usable file."""
    kept = np.flatnonzero(chosen).tolist()
    return replace(
        image_table,
        ids=image_table.ids[chosen],
        names=[image_table.names[position] for position in kept],
        sizes_px=image_table.sizes_px[chosen],
        absent=image_table.absent | set(image_table.ids[~chosen].tolist()),
    )


def _segments(records: Records) -> Records:
    """Return the segments of all images as one list of annotations."""
    lists = records.values("segments_info")
    for position, segments in enumerate(lists):
        if not isinstance(segments, list) or any(type(each) is not dict for each in segments):
            problem = f"'segments_info' is {short(segments)}; it should be a list of objects"
            raise records.error(position, problem)
    known = ("id", "category_id", "bbox", "area", "iscrowd")
    rows = [
        AnnotationRecord(image_id=record.image_id, **{key: each.get(key) for key in known})
        for record in records.rows
        for each in record.segments_info
    ]
    counts = np.array([len(segments) for segments in lists], dtype=np.int64)
    first = np.cumsum(counts) - counts

    def place(row: int) -> str:
        image = int(np.searchsorted(first, row, side="right")) - 1
        while not counts[image]:
            image -= 1
        return f"annotations[{image}].segments_info[{row - first[image]}]"

    return Records(records.file, "segments", rows, place)


def _id_flaws(
    image: Int64[np.ndarray, " A"], ids: Int64[np.ndarray, " A"]
) -> Iterator[tuple[str, Bool[np.ndarray, " A"]]]:
    """Yield each flaw that a segment id can have, and which segments have it."""
    no_color = "has an 'id' that is not a color; it should be a number from 1 to 16777215"
    yield no_color, (ids < 1) | (ids >= 256**3)
    again = np.ones(len(ids), dtype=bool)
    again[np.unique(np.stack([image, ids], axis=1), axis=0, return_index=True)[1]] = False
    yield "has the 'id' of another segment of its image; give each its own, as in the PNG", again


def _stuff(records: Records, ids: tuple[int, ...], fixes: list[AnnotationFix]) -> frozenset[int]:
    """Return the class indices of stuff. Classes without 'isthing' are things."""
    values = records.values("isthing")
    for position, value in enumerate(values):
        if value is not None and (type(value) not in (int, bool) or value not in (0, 1)):
            raise records.error(position, f"'isthing' is {short(value)}; it should be 0 or 1")
    absent = [position for position, value in enumerate(values) if value is None]
    if absent:
        fixes.append(
            AnnotationFix.of_many(records.describe("isthing", absent), "absent: read as things")
        )
    listed = records.integers("id").values.tolist()
    kinds: dict[int, object] = {}
    for position, (id_, value) in enumerate(zip(listed, values, strict=True)):
        if kinds.setdefault(id_, value) != value:
            raise records.error(position, "is listed both as thing and as stuff; keep one")
    return frozenset(class_index for class_index, id_ in enumerate(ids) if kinds[id_] in (0, False))


def _png_files(source: Path, pngs: list[str]) -> LocatedImages:
    """Return where the PNG files of segments are: in a folder beside the annotations.

    The rest of the data set is not searched, since the images may have the same names.
    """
    here = source.parent
    usual = (source.with_suffix(""), here / "panoptic", here)
    searched = tuple(filter(Path.is_dir, usual[:2])) or (here,)
    return locate_images([(png,) for png in pngs], SearchArea(here, usual, here, None, searched))
