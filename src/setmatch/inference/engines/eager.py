"""The eager engine: runs a detector with PyTorch, operation by operation, on the model's device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from setmatch.errors import diverged
from setmatch.inference.engines.base import Engine
from setmatch.losses.classification import ClassificationLoss
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput


class EagerEngine(Engine):
    """Runs a `Detector` in evaluation mode, without gradients, on the device of its weights."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    @property
    def card(self) -> ModelCard:
        """The model card of the detector."""
        return self.detector.card

    @property
    def class_loss(self) -> ClassificationLoss:
        """The classification loss of the detector."""
        return self.detector.class_loss

    @property
    def num_queries(self) -> int:
        """The largest number of detections per image."""
        return self.detector.num_queries

    @property
    def default_threshold(self) -> float:
        """The score above which detections are shown by default."""
        return self.detector.default_threshold

    @property
    def has_masks(self) -> bool:
        """True if the detector has a mask head."""
        return self.detector.has_masks

    @property
    def fixed_queries(self) -> bool:
        """True if the object queries are the same for every image."""
        return self.detector.fixed_queries

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        parameters = self.detector.parameters()
        return next((parameter.device for parameter in parameters), torch.device("cpu"))

    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        """Return the detections of a batch, best first, in pixels of the original images.

        Every module of the detector is left in the mode it was in. Raises WeightsError if a score
        or box is not finite.
        """
        with inference_mode(self.detector):
            output = self.detector.detect(batch.to(self.device), sizes_px)
        require_finite(output.detections)
        return output


def as_engine(model: Detector | Engine) -> Engine:
    """Return `model` itself if it is an engine, and an `EagerEngine` for a detector."""
    return EagerEngine(model) if isinstance(model, nn.Module) else model


@contextmanager
def inference_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode without gradients; restore the mode of every module."""
    # Module by module, because a caller may have frozen only some of them.
    training = [part for part in model.modules() if part.training]
    if training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True


def require_finite(found: Sequence[Detections]) -> None:
    """Raise WeightsError if a score or box is not finite."""
    if not all(each.scores.isfinite().all() and each.xyxy_px.isfinite().all() for each in found):
        raise diverged("scores or boxes")
