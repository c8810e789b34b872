"""DETR's attention: every query weighs every cell of one feature map."""

from typing import Any

import torch
from torch import nn

from setmatch.models.attention_trace import attention_weights, make_trace, record_calls
from setmatch.models.detector import Detector
from setmatch.postprocessing.query_predictions import require_finite
from setmatch.structures.attention import AttentionMaps, AttentionTrace
from setmatch.structures.batch import Batch


class SingleMapDetector(Detector):
    """A detector whose encoder and decoder attend to every cell of one feature map."""

    embed: Any
    encoder: Any
    decoder: Any

    def attention_trace(self, batch: Batch) -> AttentionTrace:
        """Return the attention of one image, as `Detector.attention_trace` says."""
        encoder, decoder = _layers(self.encoder), _layers(self.decoder)
        encoder_self = [layer.self_attention for layer in encoder]
        decoder_self = [layer.self_attention for layer in decoder]
        cross = [layer.cross_attention for layer in decoder]
        with record_calls([*encoder_self, *decoder_self, *cross, self.embed]) as calls:
            predictions = self(batch)[0].predictions
        require_finite(predictions)
        height, width = calls[self.embed][0].shape[-2:]
        maps = torch.stack([attention_weights(each, calls) for each in cross])
        return make_trace(
            predictions,
            self.class_loss,
            None,
            AttentionMaps(maps, (height, width)),
            decoder_self,
            encoder_self,
            (height, width),
            calls,
        )


def _layers(stack: nn.Module) -> list[Any]:
    return list(stack.get_submodule("layers").children())
