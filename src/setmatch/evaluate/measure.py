"""A model against annotated images: ask about each image once, compare, report."""

import json as json_format
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from setmatch.data.index import Index
from setmatch.data.loader import evaluation_batches
from setmatch.data.opening import open_dataset
from setmatch.errors import ConfigError, DataError, SetmatchError
from setmatch.evaluate.average_precision import Results, average_precision
from setmatch.evaluate.report import Report
from setmatch.files import whole_file
from setmatch.models.detector import Detector
from setmatch.predict import answer_batch, answering, progress_bar
from setmatch.structures import Categories

COCO_LIMIT = 100  # detections of a class in an image
Gather = Callable[[Any], list[Any]]  # one process' value -> the values of all, in every process


def evaluate(
    model: Detector,
    data: str | Path | Index,
    *,
    split: str = "val",
    batch_size: int = 4,
    workers: int = 2,
    max_detections: int | None = None,
    json: str | Path | None = None,
    detections: str | Path | None = None,
    progress: bool = False,
    rank: int = 0,
    world: int = 1,
    gather: Gather | None = None,
) -> Report:
    """Measure a model on a split of a data set: the twelve COCO numbers, and AP per class.

    `data` is a folder, a COCO file (then `split` is ignored) or an open index. Classes are matched
    by name; what the model finds of other classes is left out. Batches hold images of one shape,
    so that `batch_size` changes no answer. `json` gets the report, `detections` every detection as
    COCO results. COCO counts the 100 best detections of a class in an image; where an image holds
    more objects than that, as many as the model has slots count, unless `max_detections` says
    otherwise. Of several processes each takes its share of the images: process `rank` of
    `world`, and `gather` returns the values of all; the first writes the files, and all return the
    same report. The model is left in the mode it was in.
    Raises DataError for data that cannot be read or has no class of the model's, ConfigError for
    outputs that cannot be written, WeightsError when the model's answers are not finite.
    """
    assert world == 1 or gather is not None, "several processes need a way to hear of each other"
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one image")
    for output in (json, detections):
        _check_output(output)
    index = data if isinstance(data, Index) else open_dataset(data, split)
    slot_of = _slots_by_name(model.card.categories, index)
    # The others wait for this process' share, so that its failure has to be told as one.
    share: Results | SetmatchError
    try:
        share = _answers(model, index, slot_of, batch_size, workers, rank, world, progress)
    except SetmatchError as error:
        share = error
    shares: list[Any] = gather(share) if gather else [share]
    for each in shares:
        if isinstance(each, SetmatchError):
            raise each
    results = Results.joined(shares)
    limit = _limit(model, index) if max_detections is None else max_detections
    report = Report(
        **vars(average_precision(index, results, limit)),
        images=len(index),
        detections=len(results),
        unknown=tuple(index.categories.name(slot) for slot in _unknown(slot_of, index)),
        max_detections=limit,
    )
    if rank == 0 and json:
        _write(Path(json), json_format.dumps(report.to_json(), indent=1, ensure_ascii=False))
    if rank == 0 and detections:
        _write(Path(detections), json_format.dumps(results.to_coco(index.categories)))
    return report


def _answers(
    model: Detector,
    index: Index,
    slot_of: Int64[NDArray[np.int64], " C"],
    batch_size: int,
    workers: int,
    rank: int,
    world: int,
    progress: bool,
) -> Results:
    batches = evaluation_batches(
        index,
        model.card.preprocessing,
        batch_size=batch_size,
        workers=workers,
        rank=rank,
        world=world,
    )
    parts: list[Results] = []
    visible = progress and rank == 0
    with answering(model), progress_bar("evaluating", batches.images, visible) as advance:
        for batch in batches:
            found = answer_batch(model, batch.batch, batch.sizes_px)
            parts.append(Results.of(found, batch.image_ids, slot_of))
            advance(len(found))
    return Results.joined(parts)


def _limit(model: Detector, index: Index) -> int:
    """Return COCO's 100, or the model's slots where an image holds more objects than that."""
    crowded = np.diff(index.offsets).max(initial=0) > COCO_LIMIT
    return max(COCO_LIMIT, model.num_queries) if crowded else COCO_LIMIT


def _slots_by_name(known: Categories, index: Index) -> Int64[NDArray[np.int64], " C"]:
    """Return the data set's slot of every class slot of the model; -1 where it has none."""
    slot_of = {name: slot for slot, name in enumerate(index.categories.names)}
    slots = np.array([-1 if name is None else slot_of.get(name, -1) for name in known.names])
    if (slots < 0).all():
        raise DataError(
            f"{index.source}: no class in common with the model; the data set has "
            f"{_some(index.categories)}, the model knows {_some(known)}"
        )
    return slots.astype(np.int64)


def _unknown(slot_of: Int64[NDArray[np.int64], " C"], index: Index) -> list[int]:
    return sorted(set(range(len(index.categories))) - set(slot_of.tolist()))


def _some(categories: Categories) -> str:
    names = [name for name in categories.names if name is not None]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def _check_output(path: str | Path | None) -> None:
    """Raise ConfigError now rather than after the last image."""
    if path is not None and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise ConfigError(f"{path}: not a file in an existing folder; make the folder first")


def _write(path: Path, text: str) -> None:
    with whole_file(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")
