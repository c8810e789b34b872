"""Statistics of a data set, from its annotations alone: no image is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from setmatch.data.dataset import DetectionDataset
from setmatch.structures.metadata import Preprocessing

SMALL_PX, MEDIUM_PX = 32, 96  # COCO's limits: sides of squares with the limits of area
_MAX_COMMON_SIZES = 5
_MAX_BARS = 24


@dataclass(frozen=True)
class Percentiles:
    """Number of values, their extremes and their percentiles."""

    count: int
    min: float
    p5: float
    median: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Percentiles":
        """Return the percentiles of `values`; all are 0 if there are none."""
        if not values.size:
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        quantiles = np.quantile(values, [0, 0.05, 0.5, 0.95, 1]).tolist()
        return cls(values.size, *(round(value, 4) for value in quantiles))


@dataclass(frozen=True)
class Histogram:
    """Number of values between neighboring edges; there is one more edge than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of_integers(cls, values: NDArray[Any]) -> "Histogram":
        """Return a histogram of integers from 0, with at most 24 equally wide bars."""
        most = int(values.max()) if values.size else 0
        step = -(-(most + 1) // _MAX_BARS)
        edges = np.arange(0, most + 1 + step, step)
        return cls._of(values, edges.astype(np.float64))

    @classmethod
    def logarithmic(cls, values: NDArray[Any], low: float, high: float) -> "Histogram":
        """Return a histogram with two bars per octave; the outer bars take values beyond."""
        bars = round(2 * np.log2(high / low))
        edges = np.geomspace(low, high, bars + 1)
        return cls._of(np.clip(values, low, high), edges)

    @classmethod
    def _of(cls, values: NDArray[Any], edges: Float64[np.ndarray, " E"]) -> "Histogram":
        counts, _ = np.histogram(values, edges)
        return cls(tuple(round(edge, 4) for edge in edges.tolist()), tuple(counts.tolist()))


@dataclass(frozen=True)
class ObjectSizes:
    """Number of small, medium and large objects by COCO's limits, and the distribution of √area."""

    small: int
    medium: int
    large: int
    side_px: Percentiles
    histogram: Histogram

    @classmethod
    def of(cls, area_px: Float64[np.ndarray, " M"]) -> "ObjectSizes":
        """Return the sizes of objects with these areas, in square pixels."""
        small = int((area_px < SMALL_PX**2).sum())
        large = int((area_px > MEDIUM_PX**2).sum())
        side_px = np.sqrt(area_px)
        return cls(
            small,
            len(area_px) - small - large,
            large,
            Percentiles.of(side_px),
            Histogram.logarithmic(side_px, 4.0, 1024.0),
        )


@dataclass(frozen=True)
class SplitStatistics:
    """Statistics of one split, or of all splits together.

    `objects` are those to train on; crowd regions and `left_out` boxes (no area inside the image)
    are not among them. `resized_sizes` are object sizes after the model's preprocessing.
    """

    name: str
    images: int
    objects: int
    crowd: int
    left_out: int
    images_without_objects: int
    height_px: Percentiles
    width_px: Percentiles
    distinct_sizes: int
    common_sizes_px: tuple[tuple[int, int, int], ...]  # height, width, number of images
    aspect_ratio: Percentiles  # width / height
    aspect_ratio_histogram: Histogram
    objects_per_image: Percentiles
    objects_per_image_histogram: Histogram
    original_sizes: ObjectSizes
    resized_sizes: ObjectSizes
    objects_per_class: Mapping[str, int]
    images_per_class: Mapping[str, int]


@dataclass(frozen=True)
class Objects:
    """Objects to train on, one per row; `row` is their row in the data set's annotations."""

    row: Int64[np.ndarray, " M"]
    image: Int64[np.ndarray, " M"]
    xywh_px: Float64[np.ndarray, "M 4"]  # clipped to the image
    area_px: Float64[np.ndarray, " M"]  # by which the evaluation tells small from large


def image_of_annotations(dataset: DetectionDataset) -> Int64[np.ndarray, " A"]:
    """Return the image index of each annotation."""
    return np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))


def objects_of(dataset: DetectionDataset) -> Objects:
    """Return the objects that `dataset.target` returns: no crowds, no boxes without area."""
    image = image_of_annotations(dataset)
    size_px = dataset.sizes_px[image, ::-1].astype(np.float64)
    # In fractions of the image, because the target is computed so: rounding must agree.
    low = np.clip(dataset.xywh_px[:, :2] / size_px, 0, 1)
    high = np.clip((dataset.xywh_px[:, :2] + dataset.xywh_px[:, 2:]) / size_px, 0, 1)
    trainable: Bool[np.ndarray, " A"] = ~dataset.crowd & (high > low).all(axis=1)
    row = np.flatnonzero(trainable)
    xywh_px = np.concatenate([low, high - low], axis=1)[row] * np.tile(size_px[row], 2)
    # A file may claim any area; no object is larger than its image.
    area_px = np.minimum(dataset.area_px[row], size_px[row].prod(axis=1))
    return Objects(row, image[row], xywh_px, area_px)


def resize_scales(
    sizes_px: NDArray[np.int32], preprocessing: Preprocessing
) -> Float64[np.ndarray, " N"]:
    """Return the factor by which preprocessing resizes each image, given as (height, width)."""
    return np.minimum(
        preprocessing.short_side_px / sizes_px.min(axis=1),
        preprocessing.long_side_px / sizes_px.max(axis=1),
    )


def compute_statistics(
    name: str, datasets: Sequence[DetectionDataset], preprocessing: Preprocessing
) -> SplitStatistics:
    """Return the statistics of the given data sets together; at least one must be given.

    Classes of the same name are counted together.
    """
    objects = [objects_of(dataset) for dataset in datasets]
    sizes_px = np.concatenate([dataset.sizes_px for dataset in datasets])
    per_image = np.concatenate(
        [
            np.bincount(each.image, minlength=len(dataset))
            for dataset, each in zip(datasets, objects, strict=True)
        ]
    )
    area_px = np.concatenate([each.area_px for each in objects])
    resized_area_px = np.concatenate(
        [
            each.area_px * resize_scales(dataset.sizes_px, preprocessing)[each.image] ** 2
            for dataset, each in zip(datasets, objects, strict=True)
        ]
    )
    crowd = sum(int(dataset.crowd.sum()) for dataset in datasets)
    annotations = sum(len(dataset.crowd) for dataset in datasets)
    aspect_ratio = sizes_px[:, 1] / sizes_px[:, 0]
    distinct, counts = np.unique(sizes_px, axis=0, return_counts=True)
    common = np.argsort(-counts, kind="stable")[:_MAX_COMMON_SIZES]
    objects_per_class, images_per_class = _per_class(datasets, objects)
    return SplitStatistics(
        name=name,
        images=len(sizes_px),
        objects=len(area_px),
        crowd=crowd,
        left_out=annotations - crowd - len(area_px),
        images_without_objects=int((per_image == 0).sum()),
        height_px=Percentiles.of(sizes_px[:, 0]),
        width_px=Percentiles.of(sizes_px[:, 1]),
        distinct_sizes=len(distinct),
        common_sizes_px=tuple(
            (height, width, count)
            for (height, width), count in zip(
                distinct[common].tolist(), counts[common].tolist(), strict=True
            )
        ),
        aspect_ratio=Percentiles.of(aspect_ratio),
        aspect_ratio_histogram=Histogram.logarithmic(aspect_ratio, 0.25, 4.0),
        objects_per_image=Percentiles.of(per_image),
        objects_per_image_histogram=Histogram.of_integers(per_image),
        original_sizes=ObjectSizes.of(area_px),
        resized_sizes=ObjectSizes.of(resized_area_px),
        objects_per_class=objects_per_class,
        images_per_class=images_per_class,
    )


def _per_class(
    datasets: Sequence[DetectionDataset], objects: Sequence[Objects]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of objects of each class, and of the images that show it."""
    class_objects: dict[str, int] = {}
    class_images: dict[str, int] = {}
    for dataset, each in zip(datasets, objects, strict=True):
        classes = len(dataset.categories)
        class_indices = dataset.class_indices[each.row].astype(np.int64)
        object_counts = np.bincount(class_indices, minlength=classes)
        image_counts = np.bincount(
            np.unique(each.image * classes + class_indices) % classes, minlength=classes
        )
        for class_index in range(classes):
            name = dataset.categories.name(class_index)
            class_objects[name] = class_objects.get(name, 0) + int(object_counts[class_index])
            class_images[name] = class_images.get(name, 0) + int(image_counts[class_index])
    return class_objects, class_images
