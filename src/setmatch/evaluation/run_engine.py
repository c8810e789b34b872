"""Run a model over a split, in one or several processes, and collect its detections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from setmatch.data.batches.loader import evaluation_batches
from setmatch.data.batches.num_workers import Workers
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.corrupt_files import (
    check_evaluation_corruption,
    find_unreadable,
    split_line,
    unreadable_notes,
)
from setmatch.data.images.unreadable import UnreadableFile
from setmatch.distributed import Distributed
from setmatch.errors import DataError, SetmatchError, quoted
from setmatch.evaluation.metrics.coco import Results
from setmatch.evaluation.metrics.panoptic import PQStat, all_missed, pq_stat, sum_stats
from setmatch.evaluation.metrics.per_layer import PerLayerDetections, survives_nms
from setmatch.evaluation.metrics.worst_images import (
    WorstSegmentation,
    with_dataset_classes,
    worst_segmentations,
)
from setmatch.evaluation.split_detections import SplitDetections
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.checked import sound_output
from setmatch.inference.masks import detections_with_masks, segments_of
from setmatch.inference.progress import progress_bar
from setmatch.postprocessing.detections import detections as detections_of_layer
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions
from setmatch.structures.segments import Segments

OnPredictions = Callable[[tuple[int, ...], Predictions], None]  # image ids of a batch, predictions


@dataclass(frozen=True)
class RunOptions:
    """How a model is run over a split.

    `diagnose` also collects what the report's page shows: the detections of every decoder layer,
    and the images with the worst segments. `segment_threshold` is the model's own if None.
    """

    batch_size: int
    workers: Workers
    segment_threshold: float | None
    diagnose: bool
    progress: bool
    on_predictions: OnPredictions | None


@dataclass(frozen=True)
class _ProcessResult:
    """What one process collects from its images; `pq_stat` is None if no segments are compared."""

    per_layer: PerLayerDetections
    pq_stat: PQStat | None
    worst: list[WorstSegmentation]
    unreadable: Mapping[int, UnreadableFile]


def run_engine(
    engine: Engine,
    dataset: DetectionDataset,
    name: str,
    options: RunOptions,
    distributed: Distributed,
) -> SplitDetections:
    """Detect the objects in every image of a data set; every process returns all detections.

    Raises DataError if too many images cannot be read or the model has none of the data set's
    classes, and WeightsError if the model's outputs are not finite.
    """
    # Before the first image is processed, because an evaluation may take long.
    check_evaluation_corruption(dataset, find_unreadable(dataset, masks=engine.has_masks))
    class_index_of = dataset_class_indices(engine.card.categories, dataset)
    # The other processes wait for this one, so its error must reach them too.
    result: _ProcessResult | SetmatchError
    try:
        result = _run_images(engine, dataset, class_index_of, options, distributed)
    except SetmatchError as error:
        result = error
    results: list[_ProcessResult] = []
    for each in distributed.gather(result):
        if isinstance(each, SetmatchError):
            raise each
        results.append(each)
    unreadable = {image: file for each in results for image, file in each.unreadable.items()}
    check_evaluation_corruption(dataset, unreadable)
    stats = [each.pq_stat for each in results if each.pq_stat is not None]
    known = set(class_index_of.tolist())
    classes = range(len(dataset.categories))
    return SplitDetections(
        name,
        PerLayerDetections.concatenate([each.per_layer for each in results]),
        engine.num_queries,
        unknown=tuple(dataset.categories.name(index) for index in classes if index not in known),
        pq_stat=sum_stats(stats, len(classes)) if stats else None,
        worst=tuple(worst_segmentations([worst for each in results for worst in each.worst])),
        notes=tuple(filter(None, [split_line(dataset, unreadable.values())])),
        unreadable=unreadable_notes(dataset, unreadable),
    )


def _run_images(
    engine: Engine,
    dataset: DetectionDataset,
    class_index_of: Int64[np.ndarray, " C"],
    options: RunOptions,
    distributed: Distributed,
) -> _ProcessResult:
    """Run the images of this process."""
    batches = evaluation_batches(
        dataset,
        engine.card.preprocessing,
        batch_size=options.batch_size,
        workers=options.workers,
        rank=distributed.rank,
        world=distributed.world,
        segments=engine.has_masks and dataset.panoptic is not None,
    )
    parts: list[PerLayerDetections] = []
    stats: list[PQStat] = []
    worst: list[WorstSegmentation] = []
    image_of = {image_id: image for image, image_id in enumerate(dataset.image_ids.tolist())}
    visible = options.progress and distributed.is_first
    with torch.inference_mode(), progress_bar("evaluating", batches.images, visible) as advance:
        for batch in batches:
            output = sound_output(engine, batch.batch, batch.sizes_px)
            detected, predictions = output.detections, output.predictions
            with_masks = predictions if predictions and predictions.masks is not None else None
            if options.on_predictions is not None and predictions is not None:
                options.on_predictions(batch.image_ids, predictions)
            if with_masks and _has_comparable_masks(dataset):
                detected = detections_with_masks(engine, with_masks, batch.batch, batch.sizes_px)
            layers = [detected]
            if options.diagnose and predictions is not None:
                layers = [*_earlier_layers(engine, predictions, batch.sizes_px), detected]
            results = tuple(
                Results.from_detections(layer, batch.image_ids, class_index_of) for layer in layers
            )
            survivors = tuple(map(survives_nms, results)) if options.diagnose else ()
            parts.append(PerLayerDetections(results, survivors))
            if with_masks and batch.segments:
                predicted = segments_of(
                    engine, with_masks, batch.batch, batch.sizes_px, options.segment_threshold
                )
                for image_id, truth, segments in zip(
                    batch.image_ids, batch.segments, predicted, strict=True
                ):
                    image = image_of[image_id]
                    stat = _compare_segments(dataset, image, truth, segments, class_index_of)
                    stats.append(stat)
                    if options.diagnose:
                        shown = with_dataset_classes(segments, class_index_of, dataset.categories)
                        worst = worst_segmentations([*worst, WorstSegmentation(image, shown, stat)])
            advance(len(detected))
    if stats:
        stats += [all_missed(dataset, image) for image in batches.unreadable]
    total = sum_stats(stats, len(dataset.categories)) if stats else None
    return _ProcessResult(PerLayerDetections.concatenate(parts), total, worst, batches.unreadable)


def _compare_segments(
    dataset: DetectionDataset,
    image: int,
    truth: Segments,
    predicted: Segments,
    class_index_of: Int64[np.ndarray, " C"],
) -> PQStat:
    crowd = dataset.crowd[dataset.offsets[image] : dataset.offsets[image + 1]]
    return pq_stat(truth, crowd, predicted, class_index_of)


def _earlier_layers(
    engine: Engine, predictions: Predictions, sizes_px: Sequence[tuple[int, int]]
) -> list[list[Detections]]:
    """Return the detections of every decoder layer but the last."""
    return [
        detections_of_layer(predictions, engine.class_loss, engine.card.categories, sizes_px, layer)
        for layer in range(len(predictions.logits) - 1)
    ]


def _has_comparable_masks(dataset: DetectionDataset) -> bool:
    """Return whether there are things with masks. Stuff is compared only as segments."""
    things = len(dataset.categories) > len(dataset.categories.stuff)
    return dataset.segmentations is not None or (dataset.panoptic is not None and things)


def dataset_class_indices(known: Categories, dataset: DetectionDataset) -> Int64[np.ndarray, " C"]:
    """Return the data set's class index for every class of the model, by name; -1 if it has none.

    Raises DataError if no class has a name that both know.
    """
    names = enumerate(dataset.categories.names)
    class_index_of = {name: class_index for class_index, name in names}
    indices = np.array(
        [-1 if name is None else class_index_of.get(name, -1) for name in known.names]
    )
    if (indices < 0).all():
        raise DataError(
            f"{dataset.source}: no class in common with the model; the data set has "
            f"{_first_names(dataset.categories)}, the model knows {_first_names(known)}"
        )
    return indices.astype(np.int64)


def _first_names(categories: Categories) -> str:
    return quoted([name for name in categories.names if name is not None], 10)
