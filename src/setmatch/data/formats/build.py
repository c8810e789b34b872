"""Build a DetectionDataset: what every reader of a format ends with."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32, Int64

from setmatch.data.annotations.box_convention import BoxConvention, ConventionDoubt
from setmatch.data.annotations.cleaning import (
    NO_ID,
    NO_LINE,
    AnnotationTable,
    clean_annotations,
    without_other_conventions,
)
from setmatch.data.annotations.misread_boxes import WrittenBoxes, doubt_convention
from setmatch.data.annotations.segmentations import Segmentations, from_rings
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.missing_images import missing_images_note
from setmatch.data.images.unreadable import UnreadableFile
from setmatch.data.ragged import offsets_of, pack
from setmatch.structures.metadata import Categories


@dataclass(frozen=True, eq=False)
class ImageTable:
    """The images of a data set: their folder, ids, file names and annotated (height, width)."""

    root: Path
    ids: Int64[np.ndarray, " N"]
    names: list[str]
    sizes_px: Int32[np.ndarray, "N 2"]
    absent: frozenset[int] = frozenset()  # ids of listed images without a usable file
    notes: tuple[str, ...] = ()  # on the folders that they were found in
    unread: tuple[UnreadableFile, ...] = ()  # of the absent ones

    def size_px_by_id(self) -> dict[int, tuple[int, int]]:
        """Return the (height, width) of each image."""
        return dict(zip(self.ids.tolist(), map(tuple, self.sizes_px.tolist()), strict=True))


_POLYGONS = 2000  # with which boxes are compared
_NOT_WRITTEN = (float("nan"),) * 4


class AnnotationBuffer:
    """Collects annotations one by one, for formats with an annotation file per image.

    Columns are arrays of plain numbers: lists of objects would take several times the memory.
    """

    def __init__(self) -> None:
        self.crowds = array("b")
        self._images = array("q")
        self._class_indices = array("q")
        self._xywh_px = array("d")
        self._lines = array("q")
        self._points_px = array("f")
        self._points_per_ring = array("q")
        self._rings_per_annotation = array("q")
        self._written = array("d")

    def add(
        self,
        image: int,
        class_index: int,
        xywh_px: tuple[float, float, float, float],
        line: int,
        crowd: bool = False,
        written: Sequence[float] = _NOT_WRITTEN,
    ) -> None:
        """Add an object of image number `image`, found on line `line` of its file.

        `written` are the four numbers of its box in the file, if it has a plain one there.
        """
        self._written.extend(written)
        self._images.append(image)
        self._class_indices.append(class_index)
        self._xywh_px.extend(xywh_px)
        self._lines.append(line)
        self.crowds.append(crowd)
        self._rings_per_annotation.append(0)

    def add_ring(self, points_px: Sequence[float]) -> None:
        """Add a polygon x, y, x, y, ... to the object added last."""
        self._points_px.extend(points_px)
        self._points_per_ring.append(len(points_px) // 2)
        self._rings_per_annotation[-1] += 1

    def rows(self) -> AnnotationTable:
        """Return the objects with ids from 1 and the areas of their boxes."""
        xywh_px = np.array(self._xywh_px, dtype=np.float64).reshape(-1, 4)
        count = len(xywh_px)
        with np.errstate(over="ignore", invalid="ignore"):
            area_px = xywh_px[:, 2] * xywh_px[:, 3]
        return AnnotationTable(
            ids=np.arange(1, count + 1),
            image=np.array(self._images, dtype=np.int64),
            class_index=np.array(self._class_indices, dtype=np.int64),
            xywh_px=xywh_px,
            area_px=area_px,
            crowd=np.array(self.crowds, dtype=bool),
            line=np.array(self._lines, dtype=np.int64),
            origin=np.arange(count),
        )

    def written(self, convention: BoxConvention, is_certain: bool) -> WrittenBoxes:
        """Return the boxes as they are in the files, read by a convention."""
        values = np.array(self._written, dtype=np.float64).reshape(-1, 4)
        return WrittenBoxes(values, convention, is_certain)

    def segmentations(self) -> Segmentations | None:
        """Return the polygons; None where no object has one."""
        points_px = np.array(self._points_px, dtype=np.float32).reshape(-1, 2)
        return from_rings(points_px, self._points_per_ring, self._rings_per_annotation)


def assemble(
    source: Path,
    images: ImageTable,
    categories: Categories,
    rows: AnnotationTable,
    segmentations: Segmentations | None = None,
    fixes: Sequence[AnnotationFix] = (),
    label_files: list[str] | None = None,
    written: WrittenBoxes | None = None,
) -> DetectionDataset:
    """Clean the rows, group them by image, and return everything as a DetectionDataset.

    `segmentations` and the boxes as `written` are those of all rows that were read; `rows.origin`
    points into them. `label_files` names each image's annotation file, for formats that have one
    per image. Without `written`, nobody asks whether the boxes are of another convention.
    """
    files = images.names if label_files is None else label_files
    annotations_read = len(rows.ids)
    doubt: ConventionDoubt | None = None
    odd: list[AnnotationFix] = []
    if written is not None:
        written = replace(written, values=written.values[rows.origin])
        polygons = None if segmentations is None else segmentations.take(rows.origin)
        hulls = None if polygons is None else polygons.hulls_xyxy_px(_POLYGONS)
        doubt = _doubt(written, rows, images.sizes_px, files, hulls)
        if doubt is None:
            rows, odd = without_other_conventions(written, rows, files, images.sizes_px, hulls)
    rows, cleaned = clean_annotations(rows, files, images.sizes_px)
    rows = rows.take(np.argsort(rows.image, kind="stable"))
    names, name_offsets = pack(images.names)
    return DetectionDataset(
        source=source,
        images=images.root,
        categories=categories,
        image_ids=images.ids,
        sizes_px=images.sizes_px,
        names=names,
        name_offsets=name_offsets,
        offsets=offsets_of(np.bincount(rows.image, minlength=len(images.names))),
        xywh_px=rows.xywh_px,
        area_px=rows.area_px,
        class_indices=rows.class_index.astype(np.int32),
        crowd=rows.crowd,
        annotation_ids=rows.ids,
        fixes=(*fixes, *odd, *cleaned),
        segmentations=segmentations and segmentations.take(rows.origin),
        notes=(*images.notes, *missing_images_note(fixes, len(images.names))),
        origins=rows.origin.astype(np.int32),
        annotations_read=annotations_read,
        convention_doubt=doubt,
        unread=images.unread,
    )


def _doubt(
    written: WrittenBoxes,
    rows: AnnotationTable,
    sizes_px: Int32[np.ndarray, "N 2"],
    files: list[str],
    hulls_xyxy_px: Float64[np.ndarray, "A 4"] | None,
) -> ConventionDoubt | None:
    def place(row: int) -> str:
        name = files[rows.image[row]]
        if rows.line[row] != NO_LINE:
            return f"{name}:{rows.line[row]}"
        return name if rows.ids[row] == NO_ID else f"annotation {rows.ids[row]} of {name}"

    return doubt_convention(written, sizes_px[rows.image], rows.area_px, place, hulls_xyxy_px)
