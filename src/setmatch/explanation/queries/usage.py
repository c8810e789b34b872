"""Run a model over a data set to see what each object query is used for."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from setmatch.data.batches.loader import evaluation_batches
from setmatch.data.batches.num_workers import Workers
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.corrupt_files import split_line
from setmatch.data.images.writing import write_image
from setmatch.errors import ConfigError, diverged
from setmatch.explanation.queries.page import write_page
from setmatch.explanation.queries.statistics import QueryStatistics
from setmatch.explanation.queries.usage_figure import query_figure
from setmatch.explanation.shown_scores import checked_scores
from setmatch.files.writing import require_folder, write_text
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.checked import sound_output
from setmatch.inference.engines.eager import EagerEngine, as_engine
from setmatch.inference.options import ScoreThreshold
from setmatch.inference.progress import progress_bar
from setmatch.models.detector import Detector
from setmatch.postprocessing.query_predictions import query_predictions
from setmatch.structures.metadata import ModelCard

log = logging.getLogger("setmatch")


def study_queries(
    model: Detector | Engine,
    dataset: DetectionDataset,
    *,
    threshold: ScoreThreshold = None,
    batch_size: int = 4,
    workers: Workers = "auto",
    progress: bool = False,
) -> QueryStatistics:
    """Run a model on every image of a data set, and keep the predictions of each query.

    Annotations are not used. A few images that cannot be read are left out, which a warning of
    "setmatch" says; more raise DataError. The threshold is as in `predict`: the model's own by
    default, or "best". Raises ConfigError if the threshold or batch size is out of range or the
    model has no object queries, and WeightsError if its outputs are not finite.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one image")
    engine = as_engine(model)
    require_queries(engine)
    scores = checked_scores("queries", engine, threshold)
    batches = evaluation_batches(
        dataset, engine.card.preprocessing, batch_size=batch_size, workers=workers
    )
    shape = (len(dataset), engine.num_queries)
    cxcywh = np.full((*shape, 4), np.nan, dtype=np.float32)
    score, class_index = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.int64)
    count = 0
    with torch.inference_mode(), progress_bar("predicting", batches.images, progress) as advance:
        for batch in batches:
            predictions = sound_output(engine, batch.batch, batch.sizes_px).predictions
            if predictions is None:
                raise _without_queries(engine.card)
            if not (predictions.logits.isfinite().all() and predictions.cxcywh.isfinite().all()):
                raise diverged("scores or boxes")
            if predictions.logits.shape[2] > engine.num_queries:
                raise ConfigError(
                    f"model {engine.card.preset}: predicts {predictions.logits.shape[2]} queries, "
                    f"but its num_queries is {engine.num_queries}"
                )
            for logits, boxes in zip(predictions.logits[-1], predictions.cxcywh[-1], strict=True):
                predicted = query_predictions(logits, boxes, engine.class_loss)
                queries = len(predicted.score)
                cxcywh[count, :queries] = predicted.cxcywh.numpy()
                score[count, :queries] = predicted.score.numpy()
                class_index[count, :queries] = predicted.class_index.numpy()
                count += 1
            advance(len(batch.image_ids))
    unreadable = split_line(dataset, batches.unreadable.values())
    if unreadable:
        log.warning("%s; left out", unreadable)
    read = slice(count)  # without the images that could not be read
    return QueryStatistics(
        engine.card,
        dataset.source.name,
        scores,
        not engine.fixed_queries,
        cxcywh[read],
        score[read],
        class_index[read],
    )


def require_queries(engine: Engine) -> None:
    """Raise ConfigError for a detector without object queries, before data are read."""
    if isinstance(engine, EagerEngine) and not engine.detector.has_queries:
        raise _without_queries(engine.card)


def save_query_statistics(
    statistics: QueryStatistics, folder: str | Path, queries: Sequence[int] = ()
) -> list[Path]:
    """Write queries.html, queries.png and queries.json to a folder, and return their paths.

    The page says what stands out and what it means. Page and figure show the given `queries`, or
    the twenty with the most detections. Raises ConfigError if the model has no query of a given
    number.
    """
    require_folder(folder)
    folder, count = Path(folder), statistics.score.shape[1]
    for query in queries:
        if not 0 <= query < count:
            raise ConfigError(f"query {query}: the model has queries 0 to {count - 1}")
    page, figure, table = (folder / f"queries.{suffix}" for suffix in ("html", "png", "json"))
    write_page(statistics, queries, page)
    write_image(figure, query_figure(statistics, queries), "PNG", optimize=True)
    text = json.dumps(statistics.to_json(), indent=1, ensure_ascii=False)
    write_text(table, text + "\n")
    return [page, figure, table]


def _without_queries(card: ModelCard) -> ConfigError:
    return ConfigError(
        f"model {card.preset}: not a detection transformer, so there are no queries to show"
    )
