"""What is in a data set, counted from the index alone: no picture is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from setmatch.data.dataset import DetectionDataset
from setmatch.structures.metadata import Preprocessing

SMALL_PX, MEDIUM_PX = 32, 96  # COCO's limits: the sides of squares of that area
_COMMON = 5  # image sizes that are listed
_MOST_BARS = 24


@dataclass(frozen=True)
class Spread:
    """How many numbers there are and how they spread: extremes, 5%, half and 95%."""

    count: int
    least: float
    low: float
    median: float
    high: float
    most: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Spread":
        """Return the spread of any numbers; of none, every number is 0."""
        if not values.size:
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        quantiles = np.quantile(values, [0, 0.05, 0.5, 0.95, 1]).tolist()
        return cls(values.size, *(round(value, 4) for value in quantiles))


@dataclass(frozen=True)
class Histogram:
    """How many values fall between neighboring edges; there is one edge more than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def whole(cls, values: NDArray[Any]) -> "Histogram":
        """Return a histogram of whole numbers from 0, each bar as many numbers wide."""
        most = int(values.max()) if values.size else 0
        step = -(-(most + 1) // _MOST_BARS)
        edges = np.arange(0, most + 1 + step, step)
        return cls._of(values, edges.astype(np.float64))

    @classmethod
    def doubling(cls, values: NDArray[Any], least: float, most: float) -> "Histogram":
        """Return a histogram with two bars to every doubling; what is beyond is in the end bars."""
        bars = round(2 * np.log2(most / least))
        edges = np.geomspace(least, most, bars + 1)
        return cls._of(np.clip(values, least, most), edges)

    @classmethod
    def _of(cls, values: NDArray[Any], edges: Float64[np.ndarray, " E"]) -> "Histogram":
        counts, _ = np.histogram(values, edges)
        return cls(tuple(round(edge, 4) for edge in edges.tolist()), tuple(counts.tolist()))


@dataclass(frozen=True)
class Sizes:
    """How large objects are: COCO's three classes of area, and the side of the box's square."""

    small: int
    medium: int
    large: int
    side_px: Spread
    histogram: Histogram

    @classmethod
    def of(cls, area_px: Float64[np.ndarray, " M"]) -> "Sizes":
        """Return the sizes of objects of these areas, in square pixels."""
        small = int((area_px < SMALL_PX**2).sum())
        large = int((area_px > MEDIUM_PX**2).sum())
        side_px = np.sqrt(area_px)
        return cls(
            small,
            len(area_px) - small - large,
            large,
            Spread.of(side_px),
            Histogram.doubling(side_px, 4.0, 1024.0),
        )


@dataclass(frozen=True)
class Facts:
    """What is in one split, or in all of them together.

    `objects` are those to learn; `crowd` regions and the `left_out` (no area inside the image)
    are not among them. `seen` are the objects as large as the model will see them.
    """

    name: str
    images: int
    objects: int
    crowd: int
    left_out: int
    empty_images: int
    height_px: Spread
    width_px: Spread
    sizes: int  # how many different ones
    common_sizes_px: tuple[tuple[int, int, int], ...]  # height, width, images
    aspect: Spread  # width / height
    aspects: Histogram
    objects_per_image: Spread
    crowding: Histogram  # images by their number of objects
    original: Sizes
    seen: Sizes
    class_objects: Mapping[str, int]
    class_images: Mapping[str, int]


@dataclass(frozen=True)
class Objects:
    """The objects to learn, a row each: where they stand in the index, their image, their size."""

    row: Int64[np.ndarray, " M"]
    image: Int64[np.ndarray, " M"]
    xywh_px: Float64[np.ndarray, "M 4"]  # clipped to the image
    area_px: Float64[np.ndarray, " M"]  # by which the evaluation tells small from large


def images_of(index: DetectionDataset) -> Int64[np.ndarray, " A"]:
    """Return the number of the image to which each annotation belongs."""
    return np.repeat(np.arange(len(index)), np.diff(index.offsets))


def objects_of(index: DetectionDataset) -> Objects:
    """Return the objects that `index.target` gives out: no crowds, no boxes without area."""
    image = images_of(index)
    size_px = index.sizes_px[image, ::-1].astype(np.float64)
    # In fractions, exactly as the target is computed.
    low = np.clip(index.xywh_px[:, :2] / size_px, 0, 1)
    high = np.clip((index.xywh_px[:, :2] + index.xywh_px[:, 2:]) / size_px, 0, 1)
    learned: Bool[np.ndarray, " A"] = ~index.crowd & (high > low).all(axis=1)
    row = np.flatnonzero(learned)
    xywh_px = np.concatenate([low, high - low], axis=1)[row] * np.tile(size_px[row], 2)
    # A file may say any area; none is larger than the image.
    area_px = np.minimum(index.area_px[row], size_px[row].prod(axis=1))
    return Objects(row, image[row], xywh_px, area_px)


def scales(sizes_px: NDArray[np.int32], preprocessing: Preprocessing) -> Float64[np.ndarray, " N"]:
    """Return by how much each image (height, width) is enlarged before the model sees it."""
    return np.minimum(
        preprocessing.short_side_px / sizes_px.min(axis=1),
        preprocessing.long_side_px / sizes_px.max(axis=1),
    )


def facts_of(name: str, indexes: Sequence[DetectionDataset], preprocessing: Preprocessing) -> Facts:
    """Count what is in the given indexes together, as the model would see it after resizing.

    Classes are counted together by name. At least one index must be given.
    """
    objects = [objects_of(index) for index in indexes]
    sizes_px = np.concatenate([index.sizes_px for index in indexes])
    per_image = np.concatenate(
        [
            np.bincount(found.image, minlength=len(index))
            for index, found in zip(indexes, objects, strict=True)
        ]
    )
    area_px = np.concatenate([found.area_px for found in objects])
    seen_px = np.concatenate(
        [
            found.area_px * scales(index.sizes_px, preprocessing)[found.image] ** 2
            for index, found in zip(indexes, objects, strict=True)
        ]
    )
    crowd = sum(int(index.crowd.sum()) for index in indexes)
    annotations = sum(len(index.crowd) for index in indexes)
    aspect = sizes_px[:, 1] / sizes_px[:, 0]
    different, counts = np.unique(sizes_px, axis=0, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_COMMON]
    class_objects, class_images = _classes(indexes, objects)
    return Facts(
        name=name,
        images=len(sizes_px),
        objects=len(area_px),
        crowd=crowd,
        left_out=annotations - crowd - len(area_px),
        empty_images=int((per_image == 0).sum()),
        height_px=Spread.of(sizes_px[:, 0]),
        width_px=Spread.of(sizes_px[:, 1]),
        sizes=len(different),
        common_sizes_px=tuple(
            (height, width, count)
            for (height, width), count in zip(
                different[most].tolist(), counts[most].tolist(), strict=True
            )
        ),
        aspect=Spread.of(aspect),
        aspects=Histogram.doubling(aspect, 0.25, 4.0),
        objects_per_image=Spread.of(per_image),
        crowding=Histogram.whole(per_image),
        original=Sizes.of(area_px),
        seen=Sizes.of(seen_px),
        class_objects=class_objects,
        class_images=class_images,
    )


def _classes(
    indexes: Sequence[DetectionDataset], objects: Sequence[Objects]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many objects each class has, and how many images show it."""
    in_objects: dict[str, int] = {}
    in_images: dict[str, int] = {}
    for index, found in zip(indexes, objects, strict=True):
        classes = len(index.categories)
        class_indices = index.class_indices[found.row].astype(np.int64)
        boxes = np.bincount(class_indices, minlength=classes)
        shown = np.bincount(
            np.unique(found.image * classes + class_indices) % classes, minlength=classes
        )
        for class_index in range(classes):
            name = index.categories.name(class_index)
            in_objects[name] = in_objects.get(name, 0) + int(boxes[class_index])
            in_images[name] = in_images.get(name, 0) + int(shown[class_index])
    return in_objects, in_images
