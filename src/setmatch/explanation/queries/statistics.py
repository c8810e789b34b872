"""What every object query predicted over a data set, and what each query is used for."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from setmatch.explanation.shown_scores import ShownScores, in_words
from setmatch.structures.metadata import ModelCard

_MIN_DETECTIONS = 10  # for a specialization to be more than chance
_MIN_CLASS_FRACTION = 0.8  # of a query's detections, in a single class
_MIN_CLASS_LIFT = 1.5  # that fraction, relative to the fraction among the detections of all queries
_MAX_RELATIVE_SPREAD = 0.5  # of a query's detections, relative to those of all queries


@dataclass(frozen=True)
class QueryUsage:
    """What one query detects: its boxes in the images in which it scores above the threshold.

    `detections` counts them. `x`, `y` and `side` (√(w·h), the geometric mean) are means of these
    boxes as fractions of the image, and `spread` is the root mean square distance of the centers
    from (x, y). They are None for a query without detections.
    """

    query: int
    detections: int
    classes: dict[str, int]  # detections by class, the most frequent class first
    x: float | None
    y: float | None
    spread: float | None
    side: float | None
    specializes: tuple[str, ...]  # some of "class", "place", "size"


@dataclass(frozen=True, eq=False)
class QueryStatistics:
    """What every query of a model predicted for each image of a data set.

    Boxes are cxcywh as fractions of the image. If an image has fewer queries than the model's
    maximum, the missing ones have score 0 and NaN boxes. `ranked` is True if the image chooses the
    queries, best first, so the number of a query is a rank.
    """

    card: ModelCard
    source: str
    threshold: ShownScores
    ranked: bool
    cxcywh: Float32[np.ndarray, "N Q 4"]
    score: Float32[np.ndarray, "N Q"]
    class_index: Int64[np.ndarray, "N Q"]

    @cached_property
    def detects(self) -> Bool[np.ndarray, "N Q"]:
        """Whether a query scores above the threshold, or that of its class, in an image."""
        if isinstance(self.threshold, tuple):
            return self.score > np.array(self.threshold, dtype=np.float32)[self.class_index]
        return self.score > self.threshold

    @property
    def uses(self) -> list[QueryUsage]:
        """The usage of each query."""
        used = self.detects
        counts = np.bincount(self.class_index[used], minlength=len(self.card.categories))
        everything = _Detections.of(self.cxcywh[used], counts) if used.any() else None
        return [self._usage(query, everything) for query in range(self.score.shape[1])]

    def summary(self) -> str:
        """Return one line: how many queries detect nothing, and how many specialize."""
        uses = self.uses
        unused = sum(not use.detections for use in uses)
        specialized = sum(bool(use.specializes) for use in uses)
        above = in_words(self.threshold)
        above = above if isinstance(self.threshold, tuple) else f"a score of {above}"
        return (
            f"{len(uses)} queries, {len(self.score)} images: {unused} never detect anything above "
            f"{above}, {specialized} specialize"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the usage of every query, ready for JSON."""
        uses = self.uses
        return {
            "model": self.card.preset,
            "data": self.source,
            "images": len(self.score),
            "threshold": self._threshold_to_json(),
            "queries_are_ranks": self.ranked,
            "unused": [use.query for use in uses if not use.detections],
            "queries": [{f.name: getattr(use, f.name) for f in fields(use)} for use in uses],
        }

    def _threshold_to_json(self) -> float | dict[str, float]:
        if isinstance(self.threshold, tuple):
            names = map(self.card.categories.name, range(len(self.threshold)))
            return dict(zip(names, self.threshold, strict=True))
        return self.threshold

    def _usage(self, query: int, everything: "_Detections | None") -> QueryUsage:
        """Return the usage of one query beside the detections of all queries."""
        used = self.detects[:, query]
        count = int(used.sum())
        categories = self.card.categories
        class_counts = np.bincount(self.class_index[used, query], minlength=len(categories))
        by_frequency = np.argsort(-class_counts, kind="stable").tolist()
        classes = {
            categories.name(class_index): int(class_counts[class_index])
            for class_index in by_frequency
            if class_counts[class_index]
        }
        if not count or everything is None:
            return QueryUsage(query, 0, classes, None, None, None, None, ())
        boxes = self.cxcywh[used, query]
        x, y = boxes[:, :2].mean(0).tolist()
        kept = _Detections.of(boxes, class_counts)
        specializes = kept.specializations(everything) if count >= _MIN_DETECTIONS else ()
        side = float(np.exp(_log_side(boxes).mean()))
        x, y, spread, side = (round(value, 4) for value in (x, y, kept.spread, side))
        return QueryUsage(query, count, classes, x, y, spread, side, specializes)


@dataclass(frozen=True, eq=False)
class _Detections:
    """What some detections are like: their classes, and how much their boxes vary."""

    class_fractions: Float64[np.ndarray, " C"]
    spread: float
    spread_of_log_side: float

    @classmethod
    def of(
        cls, boxes: Float32[np.ndarray, "M 4"], class_counts: Int64[np.ndarray, " C"]
    ) -> "_Detections":
        fractions = class_counts / class_counts.sum()
        return cls(fractions, _spread(boxes), float(_log_side(boxes).std()))

    def specializations(self, everything: "_Detections") -> tuple[str, ...]:
        """Return in what a query's detections vary less than the detections of all queries."""
        top = int(self.class_fractions.argmax())
        specialized = {
            "class": self.class_fractions[top]
            >= max(_MIN_CLASS_FRACTION, _MIN_CLASS_LIFT * everything.class_fractions[top]),
            "place": self.spread < _MAX_RELATIVE_SPREAD * everything.spread,
            "size": self.spread_of_log_side < _MAX_RELATIVE_SPREAD * everything.spread_of_log_side,
        }
        return tuple(name for name, is_specialized in specialized.items() if is_specialized)


def _log_side(boxes: Float32[np.ndarray, "M 4"]) -> Float32[np.ndarray, " M"]:
    return np.log(np.maximum(boxes[:, 2] * boxes[:, 3], 1e-12)) / 2


def _spread(boxes: Float32[np.ndarray, "M 4"]) -> float:
    """Return the root mean square distance of the centers from their mean."""
    return float(np.sqrt(boxes[:, :2].var(0).sum()))
