"""Turn what a network predicts for an image into detections, with NumPy."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int

from setmatch.structures.detection_arrays import DetectionArrays
from setmatch.structures.metadata import Categories

# Logits (Q, C) to the score, class index and query of each detection, in any order.
Ranked = tuple[
    Float32[np.ndarray, " K"],
    Int[np.ndarray, " K"],
    Int[np.ndarray, " K"],
]


def decode(
    logits: Float32[np.ndarray, "Q C"],
    cxcywh: Float32[np.ndarray, "Q 4"],
    loss: str,
    categories: Categories,
    size_px: tuple[int, int],
) -> DetectionArrays:
    """Return the detections of an image of `size_px` (height, width), by descending score.

    `loss` names the classification loss that the network was trained with, one of SCORES.
    """
    scores, classes, queries = SCORES[loss](logits)
    order = np.argsort(-scores, kind="stable")
    center, sides = np.split(cxcywh[queries[order]], 2, axis=1)
    height, width = size_px
    corners = np.concatenate([center - sides / 2, center + sides / 2], axis=1)
    scale = np.array([width, height] * 2, np.float32)
    return DetectionArrays(corners * scale, scores[order], classes[order], categories)


def _best_class(logits: Float32[np.ndarray, "Q C"]) -> Ranked:
    """Return the best class of every query, "no object", the last one, excluded."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
    return probabilities.max(axis=1), probabilities.argmax(axis=1), np.arange(len(logits))


def _best_pairs(logits: Float32[np.ndarray, "Q C"]) -> Ranked:
    """Return the Q highest-scoring pairs of query and class."""
    queries, classes = logits.shape
    pairs = np.argsort(-logits, axis=None, kind="stable")[:queries]
    scores = 1 / (1 + np.exp(-logits.flat[pairs].astype(np.float32)))
    return scores, pairs % classes, pairs // classes


# How the classification losses of setmatch.losses decode logits, by the names of its table.
SCORES: dict[str, Callable[[Float32[np.ndarray, "Q C"]], Ranked]] = {
    "softmax": _best_class,
    "focal": _best_pairs,
    "varifocal": _best_pairs,
    "matchability": _best_pairs,
    "iou_aware": _best_pairs,
}
