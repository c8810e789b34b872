"""What is known of a candidate before the work: whether it runs, and shares a class with the data.

An evaluation may take hours. A model that cannot be measured keeps its row, with a note.
"""

from collections.abc import Sequence

import torch

from setmatch.data.dataset import DetectionDataset
from setmatch.errors import DataError, SetmatchError
from setmatch.evaluation.compare.candidates import Candidate
from setmatch.evaluation.run_engine import dataset_class_indices
from setmatch.evaluation.saved_detections import load_detections
from setmatch.inference.engines.base import Engine
from setmatch.structures.batch import Batch

# What models of others raise for a size that they do not take.
_FAILURES = (SetmatchError, RuntimeError, ValueError, TypeError, LookupError, AssertionError)


def check_candidates(
    candidates: Sequence[Candidate],
    dataset: DetectionDataset | None,
    batches: Sequence[Sequence[Batch]],
) -> list[Candidate]:
    """Return the candidates, with a note on each that cannot be measured.

    `batches` are the single images that each is timed on. Raises DataError for saved detections
    that cannot be read, and if no model shares a class with the data.
    """
    problems: list[DataError] = []
    checked = []
    for candidate, images in zip(candidates, batches, strict=True):
        engine = candidate.engine
        if engine is None:
            assert candidate.detections is not None, "a candidate is an engine or a file"
            if dataset is not None:
                load_detections(candidate.detections, dataset)
            checked.append(candidate)
            continue
        if dataset is not None and candidate.is_scored:
            try:
                dataset_class_indices(engine.card.categories, dataset)
            except DataError as error:
                problems.append(error)
                candidate = candidate.without_score(f"AP is not measured: {error}")
        failure = _failure(engine, images)
        if failure:
            candidate = candidate.not_measured(failure)
        checked.append(candidate)
    if problems and not any(each.is_scored for each in checked):
        raise problems[0]
    return checked


def _failure(engine: Engine, images: Sequence[Batch]) -> str:
    """Return why an engine does not run on the smallest and the largest image; "" if it does."""
    by_size = sorted(images, key=lambda batch: batch.pixels.shape[-2] * batch.pixels.shape[-1])
    try:
        with torch.inference_mode():
            for batch in (by_size[0], by_size[-1]):
                engine.detect(batch, [(batch.pixels.shape[-2], batch.pixels.shape[-1])])
    except _FAILURES as error:
        return " ".join(str(error).split())[:300] or type(error).__name__
    return ""
