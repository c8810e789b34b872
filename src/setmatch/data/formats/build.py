"""What every reader ends in: images, classes and annotations put together as an Index."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
from jaxtyping import Int32, Int64

from setmatch.data.cleaning import AnnotationTable, clean_annotations
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.missing_images import note_of
from setmatch.data.ragged import offsets_of, pack
from setmatch.data.segmentations import Segmentations
from setmatch.structures.metadata import Categories

_PLACES = re.compile(r"[/\\:\0]|\.\.")


@dataclass(frozen=True)
class ImageTable:
    """The images of a data set: where, with which ids, names and annotated (height, width).

    `absent` are the ids of images that are listed too, but have no file that can be used.
    """

    root: Path
    ids: Int64[np.ndarray, " N"]
    names: list[str]
    sizes_px: Int32[np.ndarray, "N 2"]
    absent: frozenset[int] = frozenset()


def assemble(
    source: Path,
    photos: ImageTable,
    categories: Categories,
    rows: AnnotationTable,
    segmentations: Segmentations | None,
    fixes: Sequence[AnnotationFix],
    label_files: list[str] | None = None,
) -> DetectionDataset:
    """Clean the rows, group them by image, and return everything as a DetectionDataset.

    `segmentations` are those of all rows that were read; `rows.origin` points into them.
    `label_files` names each image's annotation file, for formats that have one per image.
    """
    rows, odd = clean_annotations(
        rows, photos.names if label_files is None else label_files, photos.sizes_px
    )
    rows = rows.take(np.argsort(rows.image, kind="stable"))
    names, name_offsets = pack(photos.names)
    return DetectionDataset(
        source=source,
        images=photos.root,
        categories=categories,
        image_ids=photos.ids,
        sizes_px=photos.sizes_px,
        names=names,
        name_offsets=name_offsets,
        offsets=offsets_of(np.bincount(rows.image, minlength=len(photos.names))),
        xywh_px=rows.xywh_px,
        area_px=rows.area_px,
        class_indices=rows.class_index.astype(np.int32),
        crowd=rows.crowd,
        annotation_ids=rows.ids,
        fixes=(*fixes, *odd),
        segmentations=segmentations and segmentations.take(rows.origin),
        notes=note_of(fixes, len(photos.names)),
    )


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that all files are in."""
    parents = sorted({path.parent for path in paths})
    first = parents[0]
    return next(
        folder
        for folder in (first, *first.parents)
        if all(parent.is_relative_to(folder) for parent in parents)
    )


def is_path_traversal(name: str) -> bool:
    """Return whether a file name leads out of the folder that it is in."""
    if not _PLACES.search(name):
        return False
    # The Windows flavour knows both kinds of slashes, and drives.
    path = PureWindowsPath(name)
    return bool(path.drive or path.root or ".." in path.parts or "\0" in name)


def file_wide(value: str, done: str) -> AnnotationFix:
    """Return a Repair of many things at once, in no image in particular."""
    return AnnotationFix("", None, value, done)
