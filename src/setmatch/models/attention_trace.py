"""Tracing attention: helpers for the families, which know where their attention layers are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.detector import Detector
from setmatch.models.layers.attention.attention import Attention, ProjectedAttention
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.postprocessing.query_predictions import query_predictions, require_finite
from setmatch.structures.attention import (
    AttentionMaps,
    AttentionTrace,
    QueryPredictions,
    SamplingPoints,
)
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import Predictions

TracedAttention = Attention | ProjectedAttention
Calls = dict[nn.Module, tuple[Any, ...]]  # the arguments that each module was last called with


@contextmanager
def record_calls(modules: Sequence[nn.Module]) -> Iterator[Calls]:
    """Record the arguments of the last call of each module inside the block."""
    calls: Calls = {}
    handles = [module.register_forward_pre_hook(calls.__setitem__) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def attention_weights(attention: TracedAttention, calls: Calls) -> Float[Tensor, "H Q K"]:
    """Return the weights of a recorded attention for the one image of the batch, on the CPU."""
    query, key, _value, *attn_mask = calls[attention]
    return attention.weights(query, key, *attn_mask)[0].cpu()


def make_trace(
    predictions: Predictions,
    class_loss: ClassificationLoss,
    start: QueryPredictions | None,
    cross_attention: AttentionMaps | SamplingPoints,
    decoder: Sequence[TracedAttention],
    encoder: Sequence[TracedAttention],
    encoder_grid: tuple[int, int],
    calls: Calls,
) -> AttentionTrace:
    """Return the trace of one image; `decoder` and `encoder` are the layers' self-attentions."""
    assert predictions.logits.shape[1] == 1, "a trace is of one image"
    after = [
        query_predictions(logits[0], cxcywh[0], class_loss)
        for logits, cxcywh in zip(predictions.logits, predictions.cxcywh, strict=True)
    ]
    cells = encoder_grid[0] * encoder_grid[1]
    maps = [attention_weights(each, calls).mean(0) for each in encoder]
    return AttentionTrace(
        replace(predictions, logits=predictions.logits.cpu(), cxcywh=predictions.cxcywh.cpu()),
        start,
        (*[None] * (len(decoder) - len(after)), *after),
        cross_attention,
        torch.stack([attention_weights(each, calls).mean(0) for each in decoder]),
        torch.stack(maps) if maps else torch.zeros(0, cells, cells),
        encoder_grid,
    )


class SamplingDetector(Detector):
    """A detector whose queries sample points of its levels."""

    encoder: Any
    queries: Any
    decoder: Any

    def attention_trace(self, batch: Batch) -> AttentionTrace:
        """Return the attention of one image, as `Detector.attention_trace` says."""
        encoder_self: list[Any] = [layer.self_attention for layer in self.encoder.layers]
        decoder_self: list[Any] = [layer.self_attention for layer in self.decoder.layers]
        cross: list[Any] = [layer.cross_attention for layer in self.decoder.layers]
        with record_calls([*encoder_self, *decoder_self, *cross, self.queries]) as calls:
            predictions = self(batch)[0].predictions
        require_finite(predictions)
        decoder_self = [each for each in decoder_self if each in calls]  # the layers that have run
        cross = [each for each in cross if each in calls]
        (memory,) = calls[self.queries]
        sampled = [each.sampling_points(*calls[each]) for each in cross]
        # The points of a query may be grouped by level: all go into one axis, and heads go first.
        places = torch.stack([place[0].transpose(0, 1).flatten(2, -2) for place, _ in sampled])
        weights = torch.stack([weight[0].transpose(0, 1).flatten(2) for _, weight in sampled])
        points = torch.tensor(cross[0].points)
        return make_trace(
            predictions,
            self.class_loss,
            _start(self, memory),
            SamplingPoints(
                places.cpu(), weights.cpu(), torch.arange(len(points)).repeat_interleave(points)
            ),
            decoder_self,
            encoder_self,
            memory.shapes[-1],
            calls,
        )


def _start(model: SamplingDetector, memory: Memory) -> QueryPredictions | None:
    """Return what queries that are tokens of the encoder predict; None if they name no classes."""
    proposals = model.queries(memory)
    if proposals.logits is None:
        return None
    return query_predictions(proposals.logits[0], proposals.cxcywh[0], model.class_loss)
