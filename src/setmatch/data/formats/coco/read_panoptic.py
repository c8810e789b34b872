"""COCO panoptic JSON into an Index: boxes of its segments, and where their pixels are.

Images and their segments are paired by image id, whatever the order of the lists.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from setmatch.data.cleaning import NO_ID
from setmatch.data.dataset import AnnotationFix, DetectionDataset, PanopticFiles
from setmatch.data.formats.build import ImageTable, assemble, file_wide, is_path_traversal
from setmatch.data.formats.coco.read import read_categories, read_photos, read_rows
from setmatch.data.formats.coco.schema import AnnotationRecord, PanopticFile, parse
from setmatch.data.formats.columns import Records, short
from setmatch.data.formats.layout import missing_files
from setmatch.data.formats.missing_images import UNDRAWN, drop_missing
from setmatch.data.ragged import pack
from setmatch.errors import DataError


def read_panoptic(annotations: str | Path, images: str | Path | None = None) -> DetectionDataset:
    """Read COCO panoptic annotations; things and stuff are classes, their boxes those of the file.

    `dataset.panoptic` has the PNG file of each image and the segment id of each annotation, whose
    own ids count from 1, because segment ids say something only within their image. Images
    without one are left out: few whose file is missing, and all for which none is listed. Raises
    DataError as `read_coco` does, and where many PNG files are missing.
    """
    source = Path(annotations)
    lists = parse(source, PanopticFile)
    fixes: list[AnnotationFix] = []
    categories = read_categories(lists["categories"], fixes)
    stuff = _stuff(lists["categories"], categories.ids, fixes)
    categories = replace(categories, stuff=stuff)
    photos = read_photos(lists["images"], images, fixes)
    pictures = lists["annotations"]
    folder, photos, pngs = _paired(source, photos, pictures, fixes)
    segments = _segments(pictures)
    rows = read_rows(segments, photos, categories, fixes)
    segment_ids = rows.ids
    if (segment_ids == NO_ID).any():
        culprit = int(rows.origin[np.flatnonzero(segment_ids == NO_ID)[0]])
        raise segments.error(culprit, "has no 'id'; it should be the segment's color in the PNG")
    for flaw, wrong in _ambiguous(rows.image, segment_ids):
        if wrong.any():
            raise segments.error(int(rows.origin[wrong.argmax()]), flaw)
    origin, rows = rows.origin, replace(rows, ids=np.arange(1, len(rows.ids) + 1))
    dataset = assemble(source, photos, categories, rows, None, fixes)
    kept = np.searchsorted(origin, origin[dataset.annotation_ids - 1])
    names, name_offsets = pack(pngs)
    files = PanopticFiles(
        folder=folder,
        names=names,
        name_offsets=name_offsets,
        segment_ids=segment_ids[kept],
    )
    return replace(dataset, panoptic=files)


def _paired(
    source: Path, photos: ImageTable, pictures: Records, fixes: list[AnnotationFix]
) -> tuple[Path, ImageTable, list[str]]:
    """Return the folder of the PNG files, the photos that have one, and the name of each."""
    image_ids = pictures.whole("image_id").values.tolist()
    names = pictures.texts("file_name")
    png: dict[int, str] = {}
    for position, (image_id, name) in enumerate(zip(image_ids, names, strict=True)):
        if is_path_traversal(name):
            problem = f"file name {name!r} leads out of its folder; name a file inside it"
            raise pictures.error(position, problem)
        if image_id in png:
            before = "" if png[image_id] == name else f", with the PNG {png[image_id]!r} too"
            raise pictures.error(position, f"image {image_id} is listed twice{before}; keep one")
        png[image_id] = name
    has = np.array([image_id in png for image_id in photos.ids.tolist()], dtype=bool)
    if not has.any():
        asked, listed = (str(next(iter(ids), "none")) for ids in (png, photos.ids.tolist()))
        raise DataError(
            f"{pictures.file}: no annotation belongs to any of the listed images; the first "
            f"annotation's image_id is {asked}, the first image's id {listed}; make them agree"
        )
    for position in np.flatnonzero(~has).tolist():
        done = "no segments listed: image left out"
        fixes.append(
            AnnotationFix(photos.names[position], None, f"image {photos.ids[position]}", done)
        )
    photos = _only(photos, has)
    folder, missing = _png_folder(source, [png[image_id] for image_id in photos.ids.tolist()])
    there = np.array([png[image_id] not in missing for image_id in photos.ids.tolist()], dtype=bool)
    absent = [
        AnnotationFix(photos.names[position], None, png[int(photos.ids[position])], UNDRAWN)
        for position in np.flatnonzero(~there).tolist()
    ]
    drop_missing(folder, absent, len(there), fixes)
    photos = _only(photos, there)
    return folder, photos, [png[image_id] for image_id in photos.ids.tolist()]


def _only(photos: ImageTable, chosen: Bool[np.ndarray, " N"]) -> ImageTable:
    """Return the chosen photos; the others count as images that cannot be used."""
    kept = np.flatnonzero(chosen).tolist()
    return replace(
        photos,
        ids=photos.ids[chosen],
        names=[photos.names[position] for position in kept],
        sizes_px=photos.sizes_px[chosen],
        absent=photos.absent | set(photos.ids[~chosen].tolist()),
    )


def _segments(pictures: Records) -> Records:
    """Return the segments of all images as one list of annotations."""
    lists = pictures.values("segments_info")
    for position, segments in enumerate(lists):
        if not isinstance(segments, list) or any(type(each) is not dict for each in segments):
            problem = f"'segments_info' is {short(segments)}; it should be a list of objects"
            raise pictures.error(position, problem)
    known = ("id", "category_id", "bbox", "area", "iscrowd")
    rows = [
        AnnotationRecord(image_id=picture.image_id, **{key: each.get(key) for key in known})
        for picture in pictures.rows
        for each in picture.segments_info
    ]
    counts = np.array([len(segments) for segments in lists], dtype=np.int64)
    first = np.cumsum(counts) - counts

    def place(row: int) -> str:
        picture = int(np.searchsorted(first, row, side="right")) - 1
        while not counts[picture]:
            picture -= 1
        return f"annotations[{picture}].segments_info[{row - first[picture]}]"

    return Records(pictures.file, "segments", rows, place)


def _ambiguous(
    image: Int64[np.ndarray, " A"], ids: Int64[np.ndarray, " A"]
) -> Iterator[tuple[str, Bool[np.ndarray, " A"]]]:
    """Yield what ids of segments cannot be, and which are so."""
    no_color = "has an 'id' that is no color; it should be a number from 1 to 16777215"
    yield no_color, (ids < 1) | (ids >= 256**3)
    again = np.ones(len(ids), dtype=bool)
    again[np.unique(np.stack([image, ids], axis=1), axis=0, return_index=True)[1]] = False
    yield "has the 'id' of another segment of its image; give each its own, as in the PNG", again


def _stuff(records: Records, ids: tuple[int, ...], fixes: list[AnnotationFix]) -> frozenset[int]:
    """Return the class slots of stuff; what the file says nothing about are things."""
    values = records.values("isthing")
    for position, value in enumerate(values):
        if value is not None and (type(value) not in (int, bool) or value not in (0, 1)):
            raise records.error(position, f"'isthing' is {short(value)}; it should be 0 or 1")
    absent = [position for position, value in enumerate(values) if value is None]
    if absent:
        fixes.append(file_wide(records.some("isthing", absent), "absent: read as things"))
    listed = records.whole("id").values.tolist()
    called: dict[int, object] = {}
    for position, (id_, value) in enumerate(zip(listed, values, strict=True)):
        if called.setdefault(id_, value) != value:
            raise records.error(position, "is listed both as thing and as stuff; keep one")
    return frozenset(
        class_index for class_index, id_ in enumerate(ids) if called[id_] in (0, False)
    )


def _png_folder(source: Path, pngs: list[str]) -> tuple[Path, set[str]]:
    """Return where the PNG files are, and which of them are not there."""
    beside = [source.with_suffix(""), source.parent / "panoptic", source.parent]
    some = pngs[:20]
    found = (each for each in beside if any((each / png).is_file() for png in some))
    folder = next(found, beside[0])
    return folder, set(missing_files(folder, pngs))
