"""What bulk prediction needs of a model: rows for images. Nothing here needs torch."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from setmatch.bulk.read_source import reader_threads
from setmatch.bulk.rows import Row
from setmatch.inference.options import PredictOptions, ScoreThreshold, Thresholds
from setmatch.inference.tiles.views import OVERLAP, Tiles, images_at_once, require_overlap
from setmatch.structures.metadata import ModelCard

if TYPE_CHECKING:
    from setmatch.deploy.load import EngineName


@dataclass(frozen=True)
class Choices:
    """What a user chooses beside the model; `Predictor` explains it."""

    engine: "EngineName | None" = None
    device: str = "auto"
    threshold: ScoreThreshold = None
    classes: tuple[str | int, ...] | None = None
    batch_size: int = 4
    tiles: Tiles = None
    overlap: float = OVERLAP

    def options_of(self, engine: Thresholds) -> PredictOptions:
        """Return the choices as numbers; raises ConfigError if one is out of range."""
        require_overlap(self.overlap)
        at_once = images_at_once(self.tiles, self.batch_size)
        options = PredictOptions.of(engine, self.threshold, None, at_once, self.classes)
        return replace(options, with_segments=False)


class OpenedModel(Protocol):
    """A model that is loaded."""

    @property
    def digest(self) -> str:
        """What distinguishes the model from others: two of one digest give the same rows."""

    @property
    def options(self) -> PredictOptions:
        """Thresholds, classes and batch size."""

    def portable(self) -> Any:
        """Return what another process opens: weights in memory, or the path of a file."""

    def rows(
        self, paths: Sequence[str], sources: Sequence[object]
    ) -> Iterator[tuple[int, list[Row]]]:
        """Yield the number of each image, in any order, and its rows, which name it by its path.

        An image that cannot be read has a row with the error.
        """


def digest_of(weights: str, card: ModelCard) -> str:
    """Return the digest of a model with a digest of its weights, and with what the card says."""
    facts = (weights, card.categories.names, card.categories.ids, card.preprocessing)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def reading(options: PredictOptions, sources: Sequence[object]) -> PredictOptions:
    """Return the options with as many threads as reading the sources needs."""
    return replace(options, readers=reader_threads(sources))
