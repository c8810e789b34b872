"""The engine onnxruntime: runs an exported file with ONNX Runtime instead of PyTorch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from setmatch.errors import ConfigError, ExtraMissingError, WeightsError, short
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import require_finite
from setmatch.inference.engines.onnx_session import OnnxSession
from setmatch.losses.classification import (
    CLASSIFICATION_LOSSES,
    ClassificationLoss,
)
from setmatch.postprocessing.detections import detections
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput, Predictions

if TYPE_CHECKING:
    import onnx


class OnnxRuntimeEngine(Engine):
    """Runs an ONNX file that setmatch exported; its answers are those of the last decoder layer.

    Raises WeightsError for a file that setmatch did not export or that is damaged,
    ExtraMissingError without the libraries of the extra `onnx`.
    """

    def __init__(self, path: str | Path) -> None:
        session = OnnxSession(path)
        if session.exported.end_to_end:
            session = OnnxSession(path, _read_network(path))
        self._outputs = output_names(session.exported.has_masks)
        session.require(["pixels"], self._outputs)
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

    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        """Return the detections of a batch, best first, in pixels of the original images.

        Raises WeightsError if a score or box is not finite, ConfigError for a padded batch or a
        size that the graph does not take.
        """
        predictions = self.predict(batch)
        found = detections(predictions, self.class_loss, self.card.categories, sizes_px)
        require_finite(found)
        return ModelOutput(found, predictions)

    def predict(self, batch: Batch) -> Predictions:
        """Return the raw predictions for a batch without padding, of the last layer alone."""
        if batch.padded:
            raise ConfigError(
                "an exported model takes batches without padding: give it images of one shape at a "
                "time, as predict and evaluate do"
            )
        arrays = self._session.run(self._outputs, {"pixels": batch.pixels.cpu().numpy()})
        logits, cxcywh, *masks = (torch.from_numpy(each) for each in arrays)
        return Predictions(logits[None], cxcywh[None], masks[0] if masks else None)


def output_names(has_masks: bool) -> list[str]:
    """Return the names of the outputs that an engine reads."""
    return ["logits", "cxcywh", *(["mask_logits"] if has_masks else [])]


def network_of(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return an end-to-end graph without what it does before and after the network."""
    import onnx
    import onnx.utils

    values = {each.name for each in model.graph.value_info}
    outputs = [each for each in output_names(has_masks=True) if each in values]
    network = onnx.utils.Extractor(model).extract_model(["pixels"], outputs)
    network.metadata_props.extend(model.metadata_props)
    return network


def _read_network(path: str | Path) -> bytes:
    """Read the network of an end-to-end file; raises ExtraMissingError without onnx."""
    try:
        import onnx
    except ImportError:
        raise ExtraMissingError(
            f"{path}: an end-to-end file needs onnx to be taken apart; install it with: "
            "pip install 'setmatch[onnx]'"
        ) from None
    content: bytes = network_of(onnx.load(str(path))).SerializeToString()
    return content


def _class_loss(settings: Mapping[str, Any], where: str) -> ClassificationLoss:
    """Return the classification loss that the card of a file describes."""
    fields = dict(settings)
    name = fields.pop("name", None)
    try:
        return CLASSIFICATION_LOSSES[name](**fields)
    except (KeyError, TypeError):
        raise WeightsError(
            f"{where}: its classification loss {short(dict(settings))} is not known; use a newer "
            "setmatch"
        ) from None
