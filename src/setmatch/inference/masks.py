"""Masks of detections, and panoptic segments, from the predictions of an engine."""

from collections.abc import Sequence

import torch

from setmatch.errors import diverged
from setmatch.inference.engines.base import Engine
from setmatch.postprocessing.detections import instances
from setmatch.postprocessing.panoptic_merge import panoptic_segments
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.outputs import Predictions
from setmatch.structures.segments import Segments


@torch.inference_mode()
def detections_with_masks(
    engine: Engine,
    predictions: Predictions,
    batch: Batch,
    sizes_px: Sequence[tuple[int, int]],
    threshold: float = 0.0,
) -> list[Detections]:
    """Return the detections of an unpadded batch that score more than `threshold`, with masks.

    Masks have the sizes `sizes_px` (height, width) of the original images. Raises WeightsError if
    a mask logit is not finite.
    """
    return instances(
        predictions,
        engine.class_loss,
        engine.card.categories,
        _input_size_px(predictions, batch),
        sizes_px,
        threshold,
    )


@torch.inference_mode()
def segments_of(
    engine: Engine,
    predictions: Predictions,
    batch: Batch,
    sizes_px: Sequence[tuple[int, int]],
    threshold: float | None = None,
) -> list[Segments]:
    """Return the panoptic segments of every image of an unpadded batch.

    Segments are merged from queries that score more than `threshold` (default: the threshold of
    the classification loss). Raises WeightsError if a mask logit is not finite.
    """
    return panoptic_segments(
        predictions,
        engine.class_loss,
        engine.card.categories,
        _input_size_px(predictions, batch),
        sizes_px,
        threshold,
    )


def _input_size_px(predictions: Predictions, batch: Batch) -> tuple[int, int]:
    assert not batch.padded, "masks cover the input of the model, which must be the whole image"
    assert predictions.masks is not None, "only a model with a mask head predicts masks"
    if not predictions.masks.isfinite().all():
        raise diverged("masks")
    return batch.pixels.shape[2], batch.pixels.shape[3]
