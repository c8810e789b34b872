"""A data set's annotations in flat arrays: small, quick to open, shared by all worker processes."""

from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int32, Int64

from setmatch.data.mask_decoding import numbered, outline_masks, read_segment_ids, segment_masks
from setmatch.data.ragged import take_rows
from setmatch.data.segmentations import Segmentations
from setmatch.errors import DataError
from setmatch.structures.batch import Target
from setmatch.structures.metadata import Categories
from setmatch.structures.packed_masks import PackedMasks
from setmatch.structures.segments import Segments


@dataclass(frozen=True)
class AnnotationFix:
    """Something odd in an annotation file, and what was done about it.

    `file` is the image's name, or that of its own label file ("" when the data set is meant);
    `annotation` the id that the file gives, `line` the line where files count lines.
    """

    file: str
    annotation: int | None
    value: str
    done: str
    line: int | None = None


@dataclass(frozen=True, eq=False)
class PanopticFiles:
    """Where the pixels of each annotation are: a PNG for each image, its colors segment ids."""

    folder: Path
    names: bytes  # of the PNG of each image, UTF-8
    name_offsets: Int64[np.ndarray, " image_ends"]
    segment_ids: Int64[np.ndarray, " A"]

    def path(self, image: int) -> Path:
        """Return the PNG of image number `image`."""
        start, stop = self.name_offsets[image], self.name_offsets[image + 1]
        return self.folder / self.names[start:stop].decode()

    def take(self, images: Int[np.ndarray, " M"], rows: Int64[np.ndarray, " K"]) -> "PanopticFiles":
        """Return what belongs to the chosen images and annotations, in their order."""
        letters, name_offsets = take_rows(self.name_offsets, images)
        names = np.frombuffer(self.names, dtype=np.uint8)[letters].tobytes()
        return replace(
            self, names=names, name_offsets=name_offsets, segment_ids=self.segment_ids[rows]
        )


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """Images and their annotations, grouped by image; N images, A annotations.

    Annotations of image i are rows `offsets[i]` to `offsets[i + 1]`, boxes as the file has them:
    crowds and boxes without area are here for the evaluation, but never in `target`. There is no
    Python object for an image or box, because forked workers would copy each as they count
    references to it. `notes` says in sentences what a user should know about how it was opened.
    """

    source: Path
    images: Path
    categories: Categories
    image_ids: Int64[np.ndarray, " N"]
    sizes_px: Int32[np.ndarray, "N 2"]  # height, width
    names: bytes  # all file names, UTF-8
    name_offsets: Int64[np.ndarray, " N+1"]
    offsets: Int64[np.ndarray, " N+1"]
    xywh_px: Float64[np.ndarray, "A 4"]
    area_px: Float64[np.ndarray, " A"]
    class_indices: Int32[np.ndarray, " A"]
    crowd: Bool[np.ndarray, " A"]
    annotation_ids: Int64[np.ndarray, " A"]
    fixes: tuple[AnnotationFix, ...] = ()
    segmentations: Segmentations | None = None
    panoptic: PanopticFiles | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def nbytes(self) -> int:
        """Bytes that the images and annotations take."""
        parts = [part for part in (self, self.segmentations, self.panoptic) if part is not None]
        columns = [getattr(part, field.name) for part in parts for field in fields(part)]
        arrays = sum(column.nbytes for column in columns if isinstance(column, np.ndarray))
        return arrays + sum(len(column) for column in columns if isinstance(column, bytes))

    @property
    def fix_counts(self) -> dict[str, int]:
        """How often each kind of fix was made."""
        return dict(Counter(fix.done for fix in self.fixes))

    def name(self, image: int) -> str:
        """Return the file name of image number `image`, as the annotation file has it."""
        start, stop = self.name_offsets[image], self.name_offsets[image + 1]
        return self.names[start:stop].decode()

    def path(self, image: int) -> Path:
        """Return where image number `image` lies."""
        return self.images / self.name(image)

    def size_px(self, image: int) -> tuple[int, int]:
        """Return the annotated (height, width) of image number `image`."""
        height, width = self.sizes_px[image].tolist()
        return height, width

    def target(self, image: int, masks: bool = False) -> Target:
        """Return what to learn from image number `image`: no crowds, boxes clipped to the image.

        Boxes are fractions of the image; those that keep no area are left out. `masks` asks for
        the objects' pixels too, in the annotated size; then objects without a pixel are left out.
        Raises DataError for masks that there are not or that cannot be read.
        """
        first = self.offsets[image]
        rows = slice(first, self.offsets[image + 1])
        size = self.sizes_px[image, ::-1].astype(np.float64)
        low, extent = self.xywh_px[rows, :2], self.xywh_px[rows, 2:]
        high = np.clip((low + extent) / size, 0, 1)
        low = np.clip(low / size, 0, 1)
        keep = ~self.crowd[rows] & (high > low).all(axis=1)
        cxcywh = np.concatenate([(low + high) / 2, high - low], axis=1)[keep]
        target = Target(
            torch.from_numpy(self.class_indices[rows][keep].astype(np.int64)),
            torch.from_numpy(cxcywh.astype(np.float32)),
        )
        if not masks:
            return target
        pixels = self.masks(image, first + np.flatnonzero(keep))
        packed = PackedMasks.pack(torch.from_numpy(pixels))
        seen = packed.any()
        return Target(target.classes[seen], target.cxcywh[seen], packed[seen])

    def masks(self, image: int, annotations: Int[np.ndarray, " M"]) -> Bool[np.ndarray, "M H W"]:
        """Return the pixels of some annotations of image number `image`, in the annotated size.

        An annotation of which nothing is drawn has none. Raises DataError when the data set has
        no masks, or those of this image cannot be read.
        """
        self.require_masks()
        if self.panoptic is not None:
            segments = self.panoptic.segment_ids[annotations]
            return segment_masks(self.panoptic.path(image), segments, self.size_px(image))
        assert self.segmentations is not None, (
            "a data set with masks has them as PNGs or as segmentations"
        )
        try:
            return outline_masks(self.segmentations, annotations.tolist(), self.size_px(image))
        except DataError as error:
            raise DataError(f"{self.source}: {self.name(image)}: {error}") from None

    def run_lengths(self, image: int) -> list[dict[str, Any]]:
        """Return COCO's run lengths of every annotation of image number `image`, crowds too.

        Raises DataError as `masks` does.
        """
        rows = np.arange(self.offsets[image], self.offsets[image + 1])
        return PackedMasks.pack(torch.from_numpy(self.masks(image, rows))).to_coco()

    def segments(self, image: int) -> Segments:
        """Return the annotated segments of image number `image`, in the order of its annotations.

        Colors of the PNG that are not annotated are nothing, and a segment that the PNG lacks has
        no pixel. Raises DataError when the data set has no segments, or the PNG cannot be read.
        """
        self.require_segments()
        assert self.panoptic is not None, "that is what was required"
        rows = slice(self.offsets[image], self.offsets[image + 1])
        drawn = read_segment_ids(self.panoptic.path(image), self.size_px(image))
        return Segments(
            torch.from_numpy(numbered(drawn, self.panoptic.segment_ids[rows])),
            torch.from_numpy(self.class_indices[rows].astype(np.int64)),
            torch.ones(rows.stop - rows.start),
            self.categories,
        )

    def require_segments(self) -> None:
        """Raise DataError when the data set is not a panoptic one."""
        if self.panoptic is None:
            raise DataError(
                f"{self.source}: has no segments; panoptic segmentation is learned and measured on "
                "COCO panoptic data (a JSON file with segments_info, and its PNG files)"
            )

    def require_masks(self) -> None:
        """Raise DataError when no object of this data set has an outline or a segment."""
        if self.panoptic is None and self.segmentations is None:
            raise DataError(
                f"{self.source}: has boxes but no masks; segmentation is learned from COCO "
                "'segmentation' segmentations, YOLO polygons or COCO panoptic PNGs"
            )

    def choose(self, images: Int[np.ndarray, " M"], *notes: str) -> "DetectionDataset":
        """Return the dataset of the chosen images, in their order, with further notes."""
        rows, offsets = take_rows(self.offsets, images)
        letters, name_offsets = take_rows(self.name_offsets, images)
        return replace(
            self,
            image_ids=self.image_ids[images],
            sizes_px=self.sizes_px[images],
            names=np.frombuffer(self.names, dtype=np.uint8)[letters].tobytes(),
            name_offsets=name_offsets,
            offsets=offsets,
            xywh_px=self.xywh_px[rows],
            area_px=self.area_px[rows],
            class_indices=self.class_indices[rows],
            crowd=self.crowd[rows],
            annotation_ids=self.annotation_ids[rows],
            segmentations=self.segmentations and self.segmentations.take(rows),
            panoptic=self.panoptic and self.panoptic.take(images, rows),
            notes=(*self.notes, *notes),
        )
