"""A detector as a function of tensors, traced for export."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from setmatch.inference.engines.eager import evaluation_copy
from setmatch.models.detector import Detector
from setmatch.models.plain_operations import with_plain_operations
from setmatch.structures.batch import Batch


class TracedDetector(nn.Module):
    """The predictions of the last decoder layer: logits, boxes and, with a mask head, masks.

    It has a copy of the detector, in float32, of plain operations and without gradients.
    """

    names: tuple[str, ...] = ("logits", "cxcywh")

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        # Gradients are off, because PyTorch otherwise chooses an attention kernel whose strides the
        # exporter cannot follow.
        self.detector = with_plain_operations(single_on_cpu(detector))
        if detector.has_masks:
            self.names = (*self.names, "mask_logits")

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Return the raw predictions for images without padding."""
        valid = torch.ones_like(pixels[:, 0], dtype=torch.bool)
        predictions = self.detector(Batch(pixels, valid, False))[0].predictions
        outputs = (predictions.logits[-1], predictions.cxcywh[-1], predictions.masks)
        return tuple(each for each in outputs if each is not None)


class DecodedDetector(TracedDetector):
    """The same, and the detections by descending score, as the classification loss decodes them.

    `queries` are the numbers of the queries that the detections come from.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector)
        self.names = (*self.names, "ranked_scores", "ranked_classes", "ranked_queries")

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Return the raw predictions, then scores, class indices and queries."""
        raw = super().forward(pixels)
        return (*raw, *self._decode(raw[0]))

    def _decode(
        self, logits: Float[Tensor, "B Q C"]
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"], Int[Tensor, "B K"]]:
        decoded = self.detector.class_loss.decode(logits)
        score, order = decoded.score.topk(decoded.score.shape[1], dim=1)  # ONNX has no stable sort
        return score, decoded.class_index.gather(1, order), decoded.query.gather(1, order)


def single_on_cpu(detector: Detector) -> Detector:
    """Return a copy for evaluation as a file computes: in float32 on the CPU."""
    return evaluation_copy(detector).float().cpu()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what PyTorch's exporter prints about its own work."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.__trace")]
    loggers += [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
