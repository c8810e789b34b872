"""What a user chooses about a prediction; nothing here needs torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Literal, Protocol, Self

from setmatch.errors import ConfigError
from setmatch.structures.metadata import ModelCard

ScoreThreshold = float | Literal["best"] | None


class Thresholds(Protocol):
    """The part of an engine that its model's thresholds come from."""

    @property
    def card(self) -> ModelCard:
        """The model card."""

    @property
    def default_threshold(self) -> float:
        """The score above which detections are shown by default."""


@dataclass(frozen=True)
class PredictOptions:
    """Thresholds and batch size of a prediction.

    Detections score more than `threshold`, one number or one for each class. Segments are merged
    from queries that score more than `segment_threshold` (None: the model's own threshold). Only
    objects and segments of `classes` are returned, which are class indices; None stands for all.
    `readers` threads read images. Without `with_segments`, a model with a mask head gives no
    segments, which take time. Raises ConfigError if a value is out of range.
    """

    threshold: float | tuple[float, ...]
    segment_threshold: float | None
    batch_size: int
    classes: frozenset[int] | None = None
    readers: int = 2  # decoding an image releases the interpreter lock
    with_segments: bool = True

    @classmethod
    def of(
        cls,
        engine: Thresholds,
        threshold: ScoreThreshold,
        segment_threshold: float | None,
        batch: int,
        classes: str | int | Sequence[str | int] | None = None,
    ) -> Self:
        """Return the options with the model's own threshold for None, and its best for "best".

        `classes` are names or class indices, or one of them; a string may name several, separated
        by commas. Raises ConfigError if a value is out of range, or the model has no best
        thresholds or no such class.
        """
        options = cls(shown_scores(engine, threshold), segment_threshold, batch)
        if classes is None:
            return options
        wanted = [classes] if isinstance(classes, str | int | Integral) else classes
        of = engine.card.categories.indices_of
        return replace(options, classes=frozenset(index for each in wanted for index in of(each)))

    def thresholds(self, count: int) -> tuple[float, ...]:
        """Return the threshold of each of `count` classes, which no score exceeds if left out."""
        least = self.threshold if isinstance(self.threshold, tuple) else [self.threshold] * count
        return tuple(
            score if self.classes is None or index in self.classes else math.inf
            for index, score in enumerate(least)
        )

    def __post_init__(self) -> None:
        for name in ("threshold", "segment_threshold"):
            least = getattr(self, name)
            if isinstance(least, float | int) and not 0 <= least <= 1:
                raise ConfigError(f"{name} = {least}: scores are between 0 and 1")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size = {self.batch_size}: a batch holds at least one image")


def shown_scores(engine: Thresholds, threshold: ScoreThreshold) -> float | tuple[float, ...]:
    """Return the score that is to be exceeded, or that of each class for "best".

    None stands for the model's own. Raises ConfigError where the model has no best thresholds.
    """
    if isinstance(threshold, str):
        return _best_thresholds(engine, threshold)
    return engine.default_threshold if threshold is None else threshold


def _best_thresholds(engine: Thresholds, word: str) -> tuple[float, ...]:
    """Return the best threshold of each class; the model's own for a class that has none."""
    if word != "best":
        raise ConfigError(f"threshold {word!r}: give a score between 0 and 1, or best")
    categories = engine.card.categories
    best: Mapping[str, float] = engine.card.thresholds
    if not best:
        raise ConfigError(
            f"threshold best: {engine.card.preset} stores no best thresholds; training with a "
            "validation split stores them beside the weights"
        )
    names = map(categories.name, range(len(categories)))
    return tuple(best.get(name, engine.default_threshold) for name in names)
