"""How a model is asked about a batch of pictures, whoever wants to know."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from setmatch.errors import WeightsError
from setmatch.models.detector import Detector
from setmatch.postprocessing.detections import instances
from setmatch.postprocessing.panoptic_merge import panoptic_segments
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.outputs import ModelOutput, Predictions
from setmatch.structures.segments import Segments


@contextmanager
def inference_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode without gradients; put every part back as it was."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        # Part by part: someone may have frozen only some of them.
        for part, training in modes:
            part.training = training


def infer(model: Detector, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
    """Ask the model about a batch, on the device it is on; `sizes_px` are the originals'.

    Raises WeightsError when a score or box is not finite.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    output = model.detect(batch.to(device), sizes_px)
    if not all(
        each.scores.isfinite().all() and each.xyxy_px.isfinite().all() for each in output.detections
    ):
        raise _diverged("scores or boxes")
    return output


def instance_masks(
    model: Detector,
    predictions: Predictions,
    batch: Batch,
    sizes_px: Sequence[tuple[int, int]],
    threshold: float = 0.0,
) -> list[Detections]:
    """Return the detections that score more than `threshold`, with masks, of an unpadded batch.

    Raises WeightsError when a mask is not finite.
    """
    seen_px = _seen_px(predictions, batch)
    categories = model.card.categories
    return instances(predictions, model.class_loss, categories, seen_px, sizes_px, threshold)


def segments_in(
    model: Detector,
    predictions: Predictions,
    batch: Batch,
    sizes_px: Sequence[tuple[int, int]],
    threshold: float | None = None,
) -> list[Segments]:
    """Return the segments of every image of an unpadded batch.

    Raises WeightsError when a mask is not finite.
    """
    seen_px = _seen_px(predictions, batch)
    return panoptic_segments(
        predictions, model.class_loss, model.card.categories, seen_px, sizes_px, threshold
    )


@contextmanager
def progress_bar(what: str, total: int, visible: bool) -> Iterator[Callable[[int], None]]:
    """Show on stderr how many of `total` pictures are done, and the time left.

    Gives a function to call with how many more are done.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = [*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.advance(task, done)


def _seen_px(predictions: Predictions, batch: Batch) -> tuple[int, int]:
    assert not batch.padded, "masks cover what the model saw, and that was the image"
    assert predictions.masks is not None, "only a model with a mask head has masks"
    if not predictions.masks.isfinite().all():
        raise _diverged("masks")
    return batch.pixels.shape[2], batch.pixels.shape[3]


def _diverged(what: str) -> WeightsError:
    return WeightsError(
        f"the model answers with {what} that are not finite: its weights have diverged "
        "or are damaged; load earlier ones, or train again with a lower learning rate"
    )
