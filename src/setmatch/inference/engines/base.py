"""What an engine offers: it runs a detector on a batch, whatever executes the computation.

`predict`, `predict_folder`, `evaluate`, `compare` and `study_queries` take any object with these
members. Your own engine is a class with these members; it need not inherit from `Engine`.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from setmatch.losses.classification import ClassificationLoss
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput


@runtime_checkable
class Engine(Protocol):
    """A detector that is ready to run: preprocessed images in, detections out."""

    @property
    def card(self) -> ModelCard:
        """The model card: preset, classes and preprocessing."""

    @property
    def class_loss(self) -> ClassificationLoss:
        """The classification loss, which decodes logits into scores.

        It is used only if `detect` returns predictions.
        """

    @property
    def num_queries(self) -> int:
        """The largest number of detections per image."""

    @property
    def default_threshold(self) -> float:
        """The score above which detections are shown by default."""

    @property
    def has_masks(self) -> bool:
        """True if the predictions of `detect` contain masks."""

    @property
    def fixed_queries(self) -> bool:
        """True if the object queries are learned embeddings, the same for every image."""

    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        """Return the detections of a batch on any device, best first.

        `sizes_px` are the (height, width) of the original images; boxes are in their pixels. All
        detections and predictions are finite. The batch is not padded unless the caller pads it.
        """
