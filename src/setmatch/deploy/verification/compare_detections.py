"""Compare what two engines detect in an image, one detection at a time."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from setmatch.losses.classification import ClassificationLoss
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions

LEAST_SCORE = 0.05  # detections that score more are compared, and the best ones in any case
BEST = 10
_RANKS = 20  # a threshold of a comparison lies among the best detections
_FAR = 1e6  # the cost of a pair that is not the same detection


@dataclass(frozen=True)
class Tolerance:
    """How far apart the same detection of two engines may be.

    `mask` is the difference of the probabilities that a cell lies on the object.
    """

    box_px: float = 1e-3
    score: float = 1e-4
    mask: float = 1e-3


USUAL = Tolerance()


@dataclass(frozen=True)
class RankedDetections:
    """All detections of an image, best first, with mask probabilities from a mask head."""

    scores: Float[Tensor, " K"]
    class_indices: Int[Tensor, " K"]
    xyxy_px: Float[Tensor, "K 4"]
    masks: Float[Tensor, "K h w"] | None = None


@dataclass(frozen=True)
class Difference:
    """The largest differences over `compared` pairs of detections.

    `problem` describes the first detection that has no counterpart; it is empty if all have one.
    """

    compared: int = 0
    box_px: float = 0.0
    score: float = 0.0
    mask: float = 0.0
    problem: str = ""

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            self.compared + other.compared,
            max(self.box_px, other.box_px),
            max(self.score, other.score),
            max(self.mask, other.mask),
            self.problem or other.problem,
        )


def ranked_detections(
    predictions: Predictions, class_loss: ClassificationLoss, size_px: tuple[int, int]
) -> list[RankedDetections]:
    """Return the detections of every image of a batch, in pixels of images of (height, width)."""
    decoded = class_loss.decode(predictions.logits[-1])
    scale = torch.tensor([size_px[1], size_px[0]] * 2)
    detections = []
    for image, score in enumerate(decoded.score):
        order = score.argsort(descending=True, stable=True)
        query = decoded.query[image][order]
        boxes = cxcywh_to_xyxy(predictions.cxcywh[-1, image][query]) * scale
        masks = None if predictions.masks is None else predictions.masks[image].sigmoid()[query]
        classes = decoded.class_index[image][order]
        detections.append(RankedDetections(score[order], classes, boxes, masks))
    return detections


def compare_detections(
    expected: RankedDetections,
    given: RankedDetections,
    categories: Categories,
    tolerance: Tolerance,
) -> Difference:
    """Compare the detections of two engines in both directions.

    Every detection of one that scores more than LEAST_SCORE, and each of its BEST best, is one of
    the other. Their order is not compared: it means nothing among equal scores.
    """
    there = _matched(expected, given, tolerance)
    back = _matched(given, expected, tolerance)
    lost = [row for row, near, _ in there if near > 1]
    added = [row for row, near, _ in back if near > 1]
    if lost:
        problem = f"{_described(expected, lost[0], categories)} is {_how_far(there, lost[0])}"
    elif added:
        problem = f"{_described(given, added[0], categories)} is not the model's"
    else:
        problem = ""
    pairs = [(row, other) for row, near, other in there if near < _FAR]
    rows = torch.tensor([row for row, _ in pairs], dtype=torch.long)
    others = torch.tensor([other for _, other in pairs], dtype=torch.long)
    mask = 0.0
    if expected.masks is not None and given.masks is not None and not problem:
        mask = _largest(expected.masks[rows], given.masks[others])
        if mask > tolerance.mask:
            problem = f"a mask differs by {mask:.2g} in probability"
    return Difference(
        len(pairs),
        _largest(expected.xyxy_px[rows], given.xyxy_px[others]),
        _largest(expected.scores[rows], given.scores[others]),
        mask,
        problem,
    )


def amid_largest_gap(scores: Float[Tensor, " K"]) -> float:
    """Return a threshold far from any score: amid the largest gap among the best scores."""
    best = scores[: _RANKS + 1]
    if len(best) < 2:
        return 0.0
    place = int((best[:-1] - best[1:]).argmax())
    return float(best[place : place + 2].mean())


def _matched(
    one: RankedDetections, other: RankedDetections, tolerance: Tolerance
) -> list[tuple[int, float, int]]:
    """Return for each compared detection of `one` its distance, in tolerances, and counterpart."""
    compared = (one.scores > LEAST_SCORE).nonzero()[:, 0]
    rows = compared if len(compared) > BEST else torch.arange(min(BEST, len(one.scores)))
    box = (one.xyxy_px[rows][:, None] - other.xyxy_px).abs().amax(-1) / tolerance.box_px
    score = (one.scores[rows][:, None] - other.scores).abs() / tolerance.score
    same = one.class_indices[rows][:, None] == other.class_indices
    distance = torch.where(same, torch.maximum(box, score), _FAR).nan_to_num(nan=_FAR)
    # Whether a pair is near enough counts first: many scores and boxes may be equal.
    cost = distance.clamp(max=_FAR) + torch.where(distance > 1, _FAR, 0.0)
    numbers, columns = linear_sum_assignment(cost.double().numpy())
    found = dict(zip(numbers.tolist(), columns.tolist(), strict=True))
    return [
        (
            int(row),
            float(distance[number, found[number]]) if number in found else _FAR,
            found.get(number, -1),
        )
        for number, row in enumerate(rows)
    ]


def _described(detections: RankedDetections, row: int, categories: Categories) -> str:
    box = ", ".join(f"{value:.1f}" for value in detections.xyxy_px[row].tolist())
    name = categories.name(int(detections.class_indices[row]))
    return f"{name!r} of score {float(detections.scores[row]):.3f} at ({box})"


def _how_far(matched: list[tuple[int, float, int]], row: int) -> str:
    distance = next(near for each, near, _ in matched if each == row)
    return "missing" if distance >= _FAR else f"{distance:.3g} tolerances off"


def _largest(one: Tensor, other: Tensor) -> float:
    return float(np.nan_to_num(np.abs((one - other).numpy()), nan=np.inf).max(initial=0))
