"""What the query slots of a model are for: every box they predict over a data set, and their use.

"Slot" alone means a class slot elsewhere; here the numbers of queries are called queries.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.data.loader import evaluation_batches
from setmatch.data.num_workers import Workers
from setmatch.errors import ConfigError
from setmatch.explanation.capture import (
    QueryPredictions,
    query_predictions,
    refuse_baselines,
    refuse_divergence,
)
from setmatch.files import require_folder, whole_file
from setmatch.inference.engines.eager import inference_mode, progress_bar
from setmatch.models.detector import Detector
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.metadata import ModelCard

_FEWEST = 10  # answers from which a habit can be told
_SHARE = 0.8  # of a query's answers that are of one class
_LIFT = 1.5  # how much more than of all answers
_NARROW = 0.5  # how spread its answers are, of how spread all are


@dataclass(frozen=True)
class QueryUsage:
    """What one query is used for: the images in which it answers above the threshold.

    `x`, `y` and `side` (√(w·h), the geometric mean) are those of its answers, as fractions of the
    image; `spread` is how far their middles lie from (x, y), root mean square. None without answer.
    """

    query: int
    answers: int
    classes: dict[str, int]  # how many of its answers, the most frequent first
    x: float | None
    y: float | None
    spread: float | None
    side: float | None
    specializes: tuple[str, ...]  # in "class", "place", "size"


@dataclass(frozen=True, eq=False)
class QueryStatistics:
    """What every query of a model predicted for each image of a data set.

    Where an image gave the model fewer queries than usual, the rest have score 0 and no box (NaN).
    `ranked` says that queries are chosen by the image, best first, so that their number is a rank.
    """

    card: ModelCard
    source: str
    threshold: float
    ranked: bool
    cxcywh: Float32[np.ndarray, "N Q 4"]
    score: Float32[np.ndarray, "N Q"]
    class_index: Int64[np.ndarray, "N Q"]

    @property
    def uses(self) -> list[QueryUsage]:
        """What each query is used for."""
        return [self._use(query) for query in range(self.score.shape[1])]

    def summary(self) -> str:
        """Return one line: how many queries detect nothing, and how many specialize."""
        uses = self.uses
        unused = sum(not use.answers for use in uses)
        specialized = sum(bool(use.specializes) for use in uses)
        return (
            f"{len(uses)} queries, {len(self.score)} images: {unused} never detect anything above "
            f"a score of {self.threshold:g}, {specialized} specialize"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the use of every query, ready for JSON."""
        uses = self.uses
        return {
            "model": self.card.preset,
            "data": self.source,
            "images": len(self.score),
            "threshold": self.threshold,
            "queries_are_ranks": self.ranked,
            "dead": [use.query for use in uses if not use.answers],
            "queries": [{f.name: getattr(use, f.name) for f in fields(use)} for use in uses],
        }

    def save(self, folder: str | Path, queries: Sequence[int] = ()) -> list[Path]:
        """Write queries.png and queries.json to a folder, and return their paths.

        The picture shows the chosen `queries`, or the twenty that answer most. Raises ConfigError
        for a query that the model does not have.
        """
        from setmatch.explanation.query_usage_figure import slot_figure

        require_folder(folder)
        folder, count = Path(folder), self.score.shape[1]
        for query in queries:
            if not 0 <= query < count:
                raise ConfigError(f"query {query}: the model has queries 0 to {count - 1}")
        paths = [folder / "queries.png", folder / "queries.json"]
        with whole_file(paths[0]) as aside:
            slot_figure(self, queries).save(aside, format="PNG", optimize=True)
        with whole_file(paths[1]) as aside:
            text = json.dumps(self.to_json(), indent=1, ensure_ascii=False)
            aside.write_text(text + "\n", encoding="utf-8")
        return paths

    def _use(self, query: int) -> QueryUsage:
        used = self.score[:, query] > self.threshold
        count = int(used.sum())
        class_indices = np.bincount(
            self.class_index[used, query], minlength=len(self.card.categories)
        )
        frequent = [
            class_index
            for class_index in np.argsort(-class_indices, kind="stable").tolist()
            if class_indices[class_index]
        ]
        names = {
            self.card.categories.name(class_index): int(class_indices[class_index])
            for class_index in frequent
        }
        if not count:
            return QueryUsage(query, 0, names, None, None, None, None, ())
        boxes = self.cxcywh[used, query]
        x, y = boxes[:, :2].mean(0).tolist()
        habits = self._habits(boxes, class_indices) if count >= _FEWEST else ()
        side = float(np.exp(_log_side(boxes).mean()))
        x, y, spread, side = (round(value, 4) for value in (x, y, _spread(boxes), side))
        return QueryUsage(query, count, names, x, y, spread, side, habits)

    def _habits(
        self, boxes: Float32[np.ndarray, "M 4"], class_indices: Int64[np.ndarray, " C"]
    ) -> tuple[str, ...]:
        """Say in what one query's answers are narrower than all queries' together."""
        every = self.score > self.threshold
        all_boxes = self.cxcywh[every]
        all_slots = np.bincount(self.class_index[every], minlength=len(class_indices))
        share, shares = class_indices / class_indices.sum(), all_slots / all_slots.sum()
        top = int(share.argmax())
        found = {
            "class": share[top] >= max(_SHARE, _LIFT * shares[top]),
            "place": _spread(boxes) < _NARROW * _spread(all_boxes),
            "size": _log_side(boxes).std() < _NARROW * _log_side(all_boxes).std(),
        }
        return tuple(name for name, narrow in found.items() if narrow)


def study_queries(
    model: Detector,
    index: DetectionDataset,
    *,
    threshold: float = 0.5,
    batch_size: int = 4,
    workers: Workers = "auto",
    progress: bool = False,
) -> QueryStatistics:
    """Ask a model about every image of a data set, and keep what each of its queries predicted.

    Annotations are not looked at. Few images that cannot be read are left out; more raise
    DataError. Raises ConfigError for a threshold that is none and for a model without queries,
    WeightsError when the answers are not finite.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold = {threshold}: scores lie between 0 and 1")
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one image")
    refuse_baselines(model)
    batches = evaluation_batches(
        index, model.card.preprocessing, batch_size=batch_size, workers=workers
    )
    shape = (len(index), model.num_queries)
    cxcywh = np.full((*shape, 4), np.nan, dtype=np.float32)
    score, class_index = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.int64)
    done = 0
    with inference_mode(model), progress_bar("asking", batches.images, progress) as advance:
        for batch in batches:
            for each in _asked(model, batch):
                queries = len(each.score)
                cxcywh[done, :queries] = each.cxcywh.numpy()
                score[done, :queries] = each.score.numpy()
                class_index[done, :queries] = each.class_index.numpy()
                done += 1
            advance(len(batch.image_ids))
    ranked = isinstance(model, SetMatchDetector)
    source = index.source.name
    seen = slice(done)  # all, but for images that could not be read
    return QueryStatistics(
        model.card, source, threshold, ranked, cxcywh[seen], score[seen], class_index[seen]
    )


def _asked(model: Detector, batch: Any) -> list[QueryPredictions]:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    predictions = model(batch.batch.to(device))[0].predictions
    refuse_divergence(predictions)
    last = zip(predictions.logits[-1], predictions.cxcywh[-1], strict=True)
    return [query_predictions(logits, cxcywh, model.class_loss) for logits, cxcywh in last]


def _log_side(boxes: Float32[np.ndarray, "M 4"]) -> Float32[np.ndarray, " M"]:
    return np.log(np.maximum(boxes[:, 2] * boxes[:, 3], 1e-12)) / 2


def _spread(boxes: Float32[np.ndarray, "M 4"]) -> float:
    """Return how far the middles lie from their mean, root mean square."""
    return float(np.sqrt(boxes[:, :2].var(0).sum()))
