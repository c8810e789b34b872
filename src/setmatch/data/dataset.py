"""The annotations of a data set in flat arrays: compact, quick to open, shared by all workers."""

from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int32, Int64

from setmatch.data.annotations.box_convention import ConventionDoubt
from setmatch.data.annotations.mask_decoding import (
    read_segment_ids,
    renumber_segments,
    segment_masks,
    segmentation_masks,
)
from setmatch.data.annotations.segmentations import Segmentations
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile
from setmatch.data.ragged import decode, take_rows, unpack
from setmatch.errors import DataError
from setmatch.structures.batch import Target
from setmatch.structures.metadata import Categories
from setmatch.structures.packed_masks import PackedMasks
from setmatch.structures.segments import Segments


@dataclass(frozen=True)
class AnnotationFix:
    """A flaw in an annotation file, and how it was handled."""

    file: str  # name of the image or of its label file; "" for the whole data set
    annotation: int | None  # id, where the file gives ids
    value: str  # as found in the file
    description: str  # "flaw: how it was handled"
    line: int | None = None  # where the file is a text file

    @classmethod
    def of_many(cls, value: str, description: str) -> "AnnotationFix":
        """Return a fix of many annotations at once, of no image in particular."""
        return cls("", None, value, description)


@dataclass(frozen=True, eq=False)
class PanopticFiles:
    """The pixels of each segment: one PNG per image, whose colors are segment ids."""

    folder: Path
    names: bytes  # file names of the PNGs, one per image, UTF-8
    name_offsets: Int64[np.ndarray, " image_ends"]
    segment_ids: Int64[np.ndarray, " A"]

    def path(self, image: int) -> Path:
        """Return the PNG file of image number `image`."""
        start, stop = self.name_offsets[image], self.name_offsets[image + 1]
        return self.folder / decode(self.names[start:stop])

    def take(self, images: Int[np.ndarray, " M"], rows: Int64[np.ndarray, " K"]) -> "PanopticFiles":
        """Return the files of the chosen images and annotations, in their order."""
        letters, name_offsets = take_rows(self.name_offsets, images)
        names = np.frombuffer(self.names, dtype=np.uint8)[letters].tobytes()
        return replace(
            self, names=names, name_offsets=name_offsets, segment_ids=self.segment_ids[rows]
        )


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """Images and their annotations, grouped by image: N images, A annotations.

    The annotations of image i are the rows `offsets[i]` to `offsets[i + 1]`, with the boxes of the
    file: evaluation needs crowds and boxes without area, which `target` leaves out. No image and no
    box is a Python object: forked workers would copy each one when they count references to it.
    """

    source: Path  # annotation file, or folder of the data set
    images: Path  # folder of the image files
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
    notes: tuple[str, ...] = ()  # sentences on how the data set was opened, for the user
    # Position of each annotation in its file, where that is known.
    origins: Int32[np.ndarray, " A"] | None = None
    annotations_read: int = 0  # of which `fixes` speaks; more than A where some were left out
    convention_doubt: ConventionDoubt | None = None  # a reason to think that all boxes are misread
    # Further images, left out because their files cannot be read and their sizes are unknown.
    unread: tuple[UnreadableFile, ...] = ()

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def nbytes(self) -> int:
        """Size of the images and annotations in bytes."""
        parts = [part for part in (self, self.segmentations, self.panoptic) if part is not None]
        columns = [getattr(part, field.name) for part in parts for field in fields(part)]
        arrays = sum(column.nbytes for column in columns if isinstance(column, np.ndarray))
        return arrays + sum(len(column) for column in columns if isinstance(column, bytes))

    @property
    def fix_counts(self) -> dict[str, int]:
        """How often each kind of fix was made."""
        return dict(Counter(fix.description for fix in self.fixes))

    def name(self, image: int) -> str:
        """Return the file name of image number `image`, as the annotation file has it."""
        start, stop = self.name_offsets[image], self.name_offsets[image + 1]
        return decode(self.names[start:stop])

    def file_names(self) -> list[str]:
        """Return the file names of all images."""
        return unpack(self.names, self.name_offsets)

    def path(self, image: int) -> Path:
        """Return the file of image number `image`."""
        return self.images / self.name(image)

    def size_px(self, image: int) -> tuple[int, int]:
        """Return the annotated (height, width) of image number `image`."""
        height, width = self.sizes_px[image].tolist()
        return height, width

    def rows(self, image: int) -> range:
        """Return the rows of the annotations of image number `image`."""
        return range(int(self.offsets[image]), int(self.offsets[image + 1]))

    def target(self, image: int, masks: bool = False) -> Target:
        """Return the training target of image number `image`, without crowds.

        Boxes are clipped to the image and normalized by its size; boxes without area are left out.
        `masks` adds the objects' masks in the annotated size and leaves out objects without a
        pixel. Raises DataError for masks that do not exist or cannot be read.
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
        visible = packed.any()
        return Target(target.classes[visible], target.cxcywh[visible], packed[visible])

    def masks(self, image: int, annotations: Int[np.ndarray, " M"]) -> Bool[np.ndarray, "M H W"]:
        """Return the masks of some annotations of image number `image`, in the annotated size.

        An annotation without a segmentation has an empty mask. Raises DataError when the data set
        has no masks, or those of this image cannot be read.
        """
        self.require_masks()
        if self.panoptic is not None:
            segments = self.panoptic.segment_ids[annotations]
            return segment_masks(self.panoptic.path(image), segments, self.size_px(image))
        assert self.segmentations is not None, "masks are in PNG files or in segmentations"
        try:
            return segmentation_masks(self.segmentations, annotations.tolist(), self.size_px(image))
        except DataError as error:
            advice = f"correct the annotations in {self.source}"
            raise UnreadableError(
                UnreadableFile(str(self.path(image)), str(error), advice, "an image with masks")
            ) from None

    def run_lengths(self, image: int) -> list[dict[str, Any]]:
        """Return COCO run lengths of all annotations of image number `image`, crowds included.

        Raises DataError as `masks` does.
        """
        rows = np.arange(self.offsets[image], self.offsets[image + 1])
        return PackedMasks.pack(torch.from_numpy(self.masks(image, rows))).to_coco()

    def segments(self, image: int) -> Segments:
        """Return the annotated segments of image number `image`, in the order of its annotations.

        Colors of the PNG that are not annotated become background. A segment that is missing from
        the PNG has no pixel. Raises DataError when the data set has no segments, or the PNG cannot
        be read.
        """
        self.require_segments()
        assert self.panoptic is not None, "require_segments has checked it"
        rows = slice(self.offsets[image], self.offsets[image + 1])
        pixel_ids = read_segment_ids(self.panoptic.path(image), self.size_px(image))
        return Segments(
            torch.from_numpy(renumber_segments(pixel_ids, self.panoptic.segment_ids[rows])),
            torch.from_numpy(self.class_indices[rows].astype(np.int64)),
            torch.ones(rows.stop - rows.start),
            self.categories,
        )

    def require_sound_boxes(self) -> None:
        """Raise DataError where the boxes are probably of another convention than was read.

        It names the likely convention, shows one box both ways, and says how to choose.
        """
        if self.convention_doubt is not None:
            raise DataError(self.convention_doubt.sentence(self.source))

    def require_segments(self) -> None:
        """Raise DataError when the data set has no panoptic segments."""
        if self.panoptic is None:
            raise DataError(
                f"{self.source}: has no segments; panoptic segmentation needs COCO panoptic data "
                "(a JSON file with segments_info, and its PNG files)"
            )

    def require_masks(self) -> None:
        """Raise DataError when no object of the data set has a mask."""
        if self.panoptic is None and self.segmentations is None:
            raise DataError(
                f"{self.source}: has boxes but no masks; segmentation needs COCO 'segmentation' "
                "entries, YOLO polygons or COCO panoptic PNG files"
            )

    def choose(self, images: Int[np.ndarray, " M"], *notes: str) -> "DetectionDataset":
        """Return the chosen images in their order, with further notes."""
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
            origins=None if self.origins is None else self.origins[rows],
            notes=(*self.notes, *notes),
        )
