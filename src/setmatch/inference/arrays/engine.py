"""The engine for arrays: runs an exported file without torch, whose import takes seconds."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from setmatch.errors import WeightsError, diverged
from setmatch.inference.arrays.decode import SCORES, decode
from setmatch.inference.engines.exported_card import unknown_loss
from setmatch.inference.engines.onnx_session import open_network
from setmatch.inference.engines.openvino_session import OpenVinoSession
from setmatch.inference.engines.session import Session, output_names
from setmatch.structures.detection_arrays import DetectionArrays
from setmatch.structures.metadata import ModelCard

# What opens the network of a file, by its suffix.
_OPENERS: dict[str, Callable[[Path], Session]] = {
    ".onnx": open_network,
    ".xml": partial(OpenVinoSession, network=True),
}


class ArrayEngine:
    """Detects objects in arrays of pixels, with an exported network without a mask head."""

    def __init__(self, session: Session) -> None:
        loss = session.exported.class_loss
        if loss.get("name") not in SCORES:
            raise unknown_loss(loss, session.path)
        session.require(["pixels"], output_names(has_masks=False))
        self._session = session

    @property
    def card(self) -> ModelCard:
        """The model card in the file's metadata."""
        return self._session.exported.card

    @property
    def default_threshold(self) -> float:
        """The score above which detections are shown by default."""
        return self._session.exported.default_threshold

    def detect(
        self, pixels: Float32[np.ndarray, "B 3 h w"], sizes_px: Sequence[tuple[int, int]]
    ) -> list[DetectionArrays]:
        """Return the detections of each image, best first, in pixels of the original images.

        Raises WeightsError if a score or box is not finite, ConfigError for a size that the graph
        does not take.
        """
        logits, cxcywh = self._session.predict(pixels)
        if not (np.isfinite(logits).all() and np.isfinite(cxcywh).all()):
            raise diverged("scores or boxes")
        if (cxcywh[..., 2:] < 0).any():
            raise WeightsError(
                f"{self._session.path}: the graph predicts boxes with negative sides; export the "
                "model again"
            )
        loss, categories = self._session.exported.class_loss["name"], self.card.categories
        return [
            decode(image_logits, boxes, loss, categories, size_px)
            for image_logits, boxes, size_px in zip(logits, cxcywh, sizes_px, strict=True)
        ]


def open_array_engine(source: str | Path) -> ArrayEngine | None:
    """Return the engine of an exported file; None for whatever needs torch.

    These are weights, and networks with a mask head, whose masks torch merges into segments. Raises
    WeightsError for a file that is damaged or not ours, ExtraMissingError without its libraries.
    """
    path = Path(source)
    open_file = _OPENERS.get(path.suffix.lower())
    if open_file is None or not path.is_file():
        return None
    session = open_file(path)
    return None if session.exported.has_masks else ArrayEngine(session)
