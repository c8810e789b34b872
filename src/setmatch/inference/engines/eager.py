"""The eager engine: runs a detector with PyTorch, operation by operation, on the model's device."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from setmatch.errors import ConfigError, short
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.checked import is_sound, require_members, require_output, sound
from setmatch.losses.classification import ClassificationLoss
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput


class EagerEngine(Engine):
    """Runs a `Detector` in evaluation mode, without gradients, on the device of its weights.

    It never changes the detector, so several threads can detect with one. A detector in training
    mode is copied for every batch (see `evaluation_copy`); `as_engine` copies it once.
    """

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

    @sound
    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        """Return the detections of a batch, best first, in pixels of the original images.

        Raises ConfigError for a detector in training mode that cannot be copied, and what
        `require_output` raises for the detections of a user's own detector.
        """
        with torch.inference_mode():
            output = in_evaluation_mode(self.detector).detect(batch.to(self.device), sizes_px)
        require_output(output, self, sizes_px, f"model {type(self.detector).__name__}")
        return output


def as_engine(model: Detector | Engine) -> Engine:
    """Return `model` itself if it is an engine, and an `EagerEngine` for a detector.

    Raises ConfigError for a detector in training mode that cannot be copied, and for anything else.
    """
    if isinstance(model, nn.Module) and hasattr(model, "card"):
        return EagerEngine(in_evaluation_mode(model))  # first, since every detector is an engine
    if isinstance(model, Engine):
        # The members of an EagerEngine are the detector's, those of tiles their engine's.
        if not isinstance(model, EagerEngine) and not is_sound(model):
            require_members(model)
        return model
    raise ConfigError(
        f"{short(model)} ({type(model).__name__}) is not a model; setmatch.load(source) opens a "
        "name, a run folder or a file as one"
    )


def in_evaluation_mode(model: Detector) -> Detector:
    """Return `model` if all its modules are in evaluation mode, else its `evaluation_copy`.

    Changing the mode of the model itself would change it for every other thread that uses it.
    """
    return evaluation_copy(model) if any(part.training for part in model.modules()) else model


def evaluation_copy(model: Detector) -> Detector:
    """Return a copy in evaluation mode that shares the memory of all weights with `model`.

    Its parameters have no gradients, and its modules can be given hooks without an effect on
    `model`. Raises ConfigError if a module holds something that cannot be copied.
    """
    shared: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for part in model.modules():
        shared |= {id(value): value for value in vars(part).values() if isinstance(value, Tensor)}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    try:
        return copy.deepcopy(model, shared).eval()
    except (TypeError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise ConfigError(
            f"model {type(model).__name__}: in training mode, and to record its attention, a copy "
            f"is used, but it cannot be copied ({error}); call model.eval() before it predicts, "
            "and keep what cannot be copied out of its modules"
        ) from None
