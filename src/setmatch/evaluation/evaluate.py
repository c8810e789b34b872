"""A model against annotated images: ask about each image once, compare, report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from setmatch.data.corrupt_files import (
    check_evaluation_corruption,
    find_unreadable,
    unreadable_notes,
)
from setmatch.data.dataset import DetectionDataset
from setmatch.data.loader import evaluation_batches
from setmatch.data.num_workers import Workers
from setmatch.data.open import open_dataset, prefer_panoptic
from setmatch.errors import ConfigError, DataError, SetmatchError
from setmatch.evaluation.metrics.average_precision import Results
from setmatch.evaluation.metrics.panoptic_quality import (
    PQStat,
    all_missed,
    panoptic_quality,
    pq_stat,
    sum_stats,
)
from setmatch.evaluation.metrics.per_layer import PerLayerDetections, survives_nms
from setmatch.evaluation.outputs import Outputs
from setmatch.evaluation.report.segmentation import WorstSegmentation, in_slots_of, worst_segments
from setmatch.evaluation.results import Report
from setmatch.evaluation.summarize import COCO_LIMIT, build_report, overfull, require_objects
from setmatch.inference.engines.eager import (
    infer,
    inference_mode,
    instance_masks,
    progress_bar,
    segments_in,
)
from setmatch.models.detector import Detector
from setmatch.postprocessing.detections import detections as layer_detections
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions

Gather = Callable[[Any], list[Any]]  # one process' value -> the values of all, in every process
Listener = Callable[[tuple[int, ...], Predictions], None]  # image ids of a batch, what was said


def evaluate(
    model: Detector,
    data: str | Path | DetectionDataset,
    *,
    split: str = "val",
    batch_size: int = 4,
    workers: Workers = "auto",
    max_detections: int | None = None,
    threshold: float | None = None,
    json: str | Path | None = None,
    detections: str | Path | None = None,
    report: str | Path | None = None,
    name: str = "",
    progress: bool = False,
    rank: int = 0,
    world: int = 1,
    gather: Gather | None = None,
    listen: Listener | None = None,
) -> Report:
    """Measure a model on a split of a data set: the twelve COCO numbers, and AP per class.

    A model with masks is measured by the COCO numbers of the masks of things as well, and on
    panoptic data by panoptic quality, its segments merged from what scores above `threshold`
    (default: the model's own).
    `data` is a folder, a COCO file (then `split` is ignored) or an open index. Classes are matched
    by name; what the model finds of other classes is left out. Batches hold images of one shape,
    so that `batch_size` changes no answer. `json` gets the numbers, `detections` every detection as
    COCO results, and `report` a page, headed `name`, that says what is behind the numbers, which
    then are in the report's `diagnosis` (and so in `json`) too: the same pass over the images tells
    the AP after each decoder layer. COCO counts the 100 best detections of a class in an image;
    where an image holds more objects than that, as many as the model has slots count, unless
    `max_detections` says otherwise. Of several processes each takes its share of the images:
    process `rank` of `world`, and `gather` returns the values of all; the first writes the files,
    and all return the same report. `listen` hears the raw predictions of this process' batches.
    The model is left in the mode it was in. Images that cannot be read are unanswered, so that
    their objects count as missed, and named in the report; more than 1% of them are refused. For a
    model with masks, so are images whose PNG of segments cannot be read.
    Raises DataError for data that cannot be read, has no class of the model's, or has nothing to
    find for a page to show, ConfigError for outputs that cannot be written, WeightsError when the
    model's answers are not finite.
    """
    assert world == 1 or gather is not None, "several processes need a way to hear of each other"
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one image")
    outputs = Outputs(json, detections, report)
    outputs.require_writable()
    if isinstance(data, DetectionDataset):
        index = data
    else:
        stuff = model.card.categories.stuff
        index = open_dataset(data, split, prefer_panoptic(data, split, None) if stuff else None)
    if report:
        require_objects(index)
    masks = model.mask_head is not None
    # Now, and not after the last image but one.
    check_evaluation_corruption(index, find_unreadable(index, masks=masks))
    class_index_of = _slots_by_name(model.card.categories, index)
    # The others wait for this process' share, so that its failure has to be told as one.
    share: _Share | SetmatchError
    try:
        share = _answers(
            model,
            index,
            class_index_of,
            _Questions(batch_size, workers, threshold, rank, world, progress, bool(report), listen),
        )
    except SetmatchError as error:
        share = error
    shares: list[Any] = gather(share) if gather else [share]
    for each in shares:
        if isinstance(each, SetmatchError):
            raise each
    unreadable = {image: text for each in shares for image, text in each.unreadable.items()}
    check_evaluation_corruption(index, unreadable)
    tallies = [each.segments for each in shares if each.segments is not None]
    classes = index.categories
    return build_report(
        index,
        PerLayerDetections.joined([each.answers for each in shares]),
        outputs,
        limit=_limit(model, index) if max_detections is None else max_detections,
        unknown=_unknown(class_index_of, index),
        name=name or model.card.preset,
        panoptic=panoptic_quality(sum_stats(tallies, len(classes)), classes) if tallies else None,
        worst=worst_segments([mistaken for each in shares for mistaken in each.worst]),
        unanswered=unreadable_notes(index, unreadable),
        writes=rank == 0,
    )


@dataclass(frozen=True)
class _Questions:
    """How a process goes through its share of the images, and what is to be known of each."""

    batch_size: int
    workers: Workers
    threshold: float | None
    rank: int
    world: int
    progress: bool
    every_layer: bool
    listen: Listener | None


@dataclass(frozen=True)
class _Share:
    """What one process found in its images, how its segments compare, where there are any, the
    images where they do worst, if a page is to show them, and the images that it could not read.
    """

    answers: PerLayerDetections
    segments: PQStat | None
    worst: list[WorstSegmentation]
    unreadable: Mapping[int, str]


def _answers(
    model: Detector,
    index: DetectionDataset,
    class_index_of: Int64[np.ndarray, " C"],
    questions: "_Questions",
) -> _Share:
    batches = evaluation_batches(
        index,
        model.card.preprocessing,
        batch_size=questions.batch_size,
        workers=questions.workers,
        rank=questions.rank,
        world=questions.world,
        segments=model.mask_head is not None and index.panoptic is not None,
    )
    parts: list[PerLayerDetections] = []
    tallies: list[PQStat] = []
    worst: list[WorstSegmentation] = []
    place = {image_id: image for image, image_id in enumerate(index.image_ids.tolist())}
    visible = questions.progress and questions.rank == 0
    with inference_mode(model), progress_bar("evaluating", batches.images, visible) as advance:
        for batch in batches:
            answer = infer(model, batch.batch, batch.sizes_px)
            found, predictions = answer.found, answer.predictions
            masked = predictions if predictions and predictions.masks is not None else None
            if questions.listen is not None and predictions is not None:
                questions.listen(batch.image_ids, predictions)
            if masked and _compares_masks(index):
                found = instance_masks(model, masked, batch.batch, batch.sizes_px)
            layers = [found]
            if questions.every_layer and predictions is not None:
                layers = [*_earlier_layers(model, predictions, batch.sizes_px), found]
            results = tuple(Results.of(layer, batch.image_ids, class_index_of) for layer in layers)
            survivors = tuple(map(survives_nms, results)) if questions.every_layer else ()
            parts.append(PerLayerDetections(results, survivors))
            if masked and batch.segments:
                segments = segments_in(
                    model, masked, batch.batch, batch.sizes_px, questions.threshold
                )
                pairs = zip(batch.image_ids, batch.segments, segments, strict=True)
                for image_id, truth, each in pairs:
                    image = place[image_id]
                    crowd = index.crowd[index.offsets[image] : index.offsets[image + 1]]
                    tallies.append(pq_stat(truth, crowd, each, class_index_of))
                    if questions.every_layer:
                        shown = in_slots_of(each, class_index_of, index.categories)
                        worst = worst_segments(
                            [*worst, WorstSegmentation(image, shown, tallies[-1])]
                        )
            advance(len(found))
    if tallies:
        tallies += [all_missed(index, image) for image in batches.unreadable]
    total = sum_stats(tallies, len(index.categories)) if tallies else None
    return _Share(PerLayerDetections.joined(parts), total, worst, batches.unreadable)


def _earlier_layers(
    model: Detector, predictions: Predictions, sizes_px: Sequence[tuple[int, int]]
) -> list[list[Detections]]:
    """Read what every decoder layer but the last believes."""
    return [
        layer_detections(predictions, model.class_loss, model.card.categories, sizes_px, layer)
        for layer in range(len(predictions.logits) - 1)
    ]


def _compares_masks(index: DetectionDataset) -> bool:
    """Return whether there are things with masks; stuff is compared as segments alone."""
    things = len(index.categories) > len(index.categories.stuff)
    return index.segmentations is not None or (index.panoptic is not None and things)


def _limit(model: Detector, index: DetectionDataset) -> int:
    """Return COCO's 100, or the model's slots where an image holds more objects than that."""
    return max(COCO_LIMIT, model.num_queries) if overfull(index) else COCO_LIMIT


def _slots_by_name(known: Categories, index: DetectionDataset) -> Int64[np.ndarray, " C"]:
    """Return the data set's slot of every class slot of the model; -1 where it has none."""
    class_index_of = {name: class_index for class_index, name in enumerate(index.categories.names)}
    class_indices = np.array(
        [-1 if name is None else class_index_of.get(name, -1) for name in known.names]
    )
    if (class_indices < 0).all():
        raise DataError(
            f"{index.source}: no class in common with the model; the data set has "
            f"{_some(index.categories)}, the model knows {_some(known)}"
        )
    return class_indices.astype(np.int64)


def _unknown(class_index_of: Int64[np.ndarray, " C"], index: DetectionDataset) -> tuple[str, ...]:
    known = set(class_index_of.tolist())
    class_indices = range(len(index.categories))
    return tuple(
        index.categories.name(class_index)
        for class_index in class_indices
        if class_index not in known
    )


def _some(categories: Categories) -> str:
    names = [name for name in categories.names if name is not None]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
