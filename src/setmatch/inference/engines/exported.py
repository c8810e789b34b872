"""What the engines of exported files have in common: a session computes, the card says the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from setmatch.errors import ConfigError
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.checked import require_sound, sound
from setmatch.inference.engines.exported_card import unknown_loss
from setmatch.inference.engines.session import Session, output_names
from setmatch.losses.classification import CLASSIFICATION_LOSSES, ClassificationLoss
from setmatch.postprocessing.detections import detections
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput, Predictions


class ExportedEngine(Engine):
    """Runs an exported file by a session; its predictions are those of the last decoder layer.

    Raises WeightsError for a graph without the inputs and outputs of an engine.
    """

    def __init__(self, session: Session) -> None:
        session.require(["pixels"], output_names(session.exported.has_masks))
        self._session = session
        self._class_loss = _class_loss(session.exported.class_loss, session.path)

    @property
    def card(self) -> ModelCard:
        """The model card in the file's metadata."""
        return self._session.exported.card

    @property
    def class_loss(self) -> ClassificationLoss:
        """The classification loss that decodes the logits."""
        return self._class_loss

    @property
    def num_queries(self) -> int:
        """The largest number of detections per image."""
        return self._session.exported.num_queries

    @property
    def default_threshold(self) -> float:
        """The score above which detections are shown by default."""
        return self._session.exported.default_threshold

    @property
    def has_masks(self) -> bool:
        """True if the graph predicts masks."""
        return self._session.exported.has_masks

    @property
    def fixed_queries(self) -> bool:
        """True if the object queries are the same for every image."""
        return self._session.exported.fixed_queries

    @sound
    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        """Return the detections of a batch, best first, in pixels of the original images.

        Raises WeightsError if a score or box is not finite, ConfigError for a padded batch or a
        size that the graph does not take.
        """
        predictions = self.predict(batch)
        found = detections(predictions, self.class_loss, self.card.categories, sizes_px)
        require_sound(found)
        return ModelOutput(found, predictions)

    def predict(self, batch: Batch) -> Predictions:
        """Return the raw predictions for a batch without padding, of the last layer alone."""
        if batch.padded:
            raise ConfigError(
                "an exported model takes batches without padding: give it images of one shape at a "
                "time, as predict and evaluate do"
            )
        arrays = self._session.predict(batch.pixels.cpu().numpy())
        logits, cxcywh, *masks = (torch.from_numpy(each) for each in arrays)
        return Predictions(logits[None], cxcywh[None], masks[0] if masks else None)


def _class_loss(settings: Mapping[str, Any], where: str) -> ClassificationLoss:
    """Return the classification loss that the card of a file describes."""
    fields = dict(settings)
    name = fields.pop("name", None)
    try:
        return CLASSIFICATION_LOSSES[name](**fields)
    except (KeyError, TypeError):
        raise unknown_loss(settings, where) from None
