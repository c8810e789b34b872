"""What is wrong with detections that a user's own code makes: in one sentence, at the border."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from setmatch.errors import ConfigError, DataError, short
from setmatch.structures.metadata import Categories
from setmatch.structures.packed_masks import PackedMasks
from setmatch.structures.tensor_checks import (
    described,
    is_floating,
    is_size_px,
    is_whole,
    require_one_device,
)

_ROW = ("bbox", "score", "category_id")


def require_detection_parts(
    xyxy_px: Any, scores: Any, classes: Any, categories: Any, size_px: Any, masks: Any
) -> None:
    """Raise DataError for parts of detections of other types or shapes; no value is read."""
    if not is_floating(scores, None):
        raise DataError(
            f"Detections: scores are {described(scores)}; they should be a floating-point tensor "
            "(N,), as torch.tensor or torch.from_numpy makes it"
        )
    count = len(scores)
    if not is_floating(xyxy_px, count, 4):
        raise DataError(
            f"Detections: boxes are {described(xyxy_px)}; they should be a "
            f"floating-point tensor ({count}, 4) of corners x0, y0, x1, y1, a row for each score"
        )
    if not is_whole(classes, count):
        raise DataError(
            f"Detections: classes are {described(classes)}; they should be class "
            f"indices ({count},) as an int64 tensor, one for each score"
        )
    if not isinstance(categories, Categories):
        raise DataError(
            f"Detections: categories are {described(categories)}; give a "
            "setmatch.Categories, such as model.card.categories"
        )
    if not is_size_px(size_px):
        raise DataError(
            f"Detections: size_px = {short(size_px)}; give the (height, width) of the image"
        )
    if masks is not None and (not isinstance(masks, PackedMasks) or len(masks) != count):
        given = f"{len(masks)} masks" if isinstance(masks, PackedMasks) else described(masks)
        raise DataError(
            f"Detections: got {given} for {count} scores; pack a bool tensor ({count}, height, "
            "width) with setmatch.structures.packed_masks.PackedMasks.pack"
        )
    require_one_device("Detections", boxes=xyxy_px, scores=scores, classes=classes)


def unsound_values(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    classes: Int[Tensor, " N"],
    class_count: int,
) -> str | None:
    """Return what is wrong with the first wrong detection; None if all are right.

    Boxes are corners in pixels, and may reach out of the image.
    """
    most = class_count - 1
    if not len(scores) or _all_sound(boxes, scores, classes, most):
        return None
    is_wrong = {
        "a score or box that is not finite": ~(scores.isfinite() & boxes.isfinite().all(1)),
        "a score that is not between 0 and 1": (scores < 0) | (scores > 1),
        "a box that ends before it begins; boxes are corners x0, y0, x1, y1 in pixels": (
            boxes[:, 2:] < boxes[:, :2]
        ).any(1),
        f"an unknown class; class indices are 0 to {most}": (classes < 0) | (classes > most),
    }
    for problem, rows in is_wrong.items():
        if rows.any():
            row = int(rows.nonzero()[0])
            values = ", ".join(f"{value:g}" for value in boxes[row].tolist())
            return (
                f"detection {row} (class index {int(classes[row])}, score {float(scores[row]):g}, "
                f"box {values}) has {problem}"
            )
    return None


def _all_sound(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], classes: Int[Tensor, " N"], most: int
) -> bool:
    """Return whether all values are sound, from a few extremes: nearly all detections are."""
    least_side = (boxes[:, 2:] - boxes[:, :2]).amin()  # not a number where a box is none
    extremes = torch.stack([*scores.aminmax(), least_side, boxes.abs().amax()]).tolist()
    low, high, side, far = extremes
    first, last = torch.stack(classes.aminmax()).tolist()
    return low >= 0 and high <= 1 and side >= 0 and far < math.inf and first >= 0 and last <= most


def require_score(function: str, name: str, value: Any, also: str = "") -> None:
    """Raise ConfigError unless a value is a score."""
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ConfigError(
            f"{function}: {name} = {short(value)}; give a score between 0 and 1{also}"
        )


def require_result_row(number: int, row: Any) -> None:
    """Raise DataError unless a row of COCO results has a box, a score and a category id."""
    has_all = isinstance(row, Mapping) and all(name in row for name in _ROW)
    box = row["bbox"] if has_all else ()
    is_box = isinstance(box, Sequence) and len(box) == 4
    if not (has_all and is_box and all(isinstance(n, Real) for n in (*box, row["score"]))):
        raise DataError(
            f"from_dicts: row {number} is {short(row)}; each has bbox (x, y, width, height), "
            "score and category_id"
        )


def class_indices_of(ids: Sequence[Any], categories: Categories) -> Int[Tensor, " N"]:
    """Return the class indices of category ids; raises DataError for an id that there is not."""
    index_of = {category_id: index for index, category_id in enumerate(categories.ids)}
    unknown = [each for each in ids if each not in index_of]
    if unknown:
        raise DataError(
            f"category id {short(unknown[0])}: no such category; ids are {short(categories.ids)}"
        )
    return torch.tensor([index_of[each] for each in ids], dtype=torch.int64)
