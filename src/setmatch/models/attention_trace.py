"""Tracing attention: helpers for the families, which know where their attention layers are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.layers.attention import Attention
from setmatch.postprocessing.query_predictions import query_predictions
from setmatch.structures.attention import (
    AttentionMaps,
    AttentionTrace,
    QueryPredictions,
    SamplingPoints,
)
from setmatch.structures.outputs import Predictions

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


def attention_weights(attention: Attention, calls: Calls) -> Float[Tensor, "H Q K"]:
    """Return the weights of a recorded attention for the one image of the batch, on the CPU."""
    query, key, _value, *attn_mask = calls[attention]
    return attention.weights(query, key, *attn_mask)[0].cpu()


def make_trace(
    predictions: Predictions,
    class_loss: ClassificationLoss,
    start: QueryPredictions | None,
    cross_attention: AttentionMaps | SamplingPoints,
    decoder: Sequence[Attention],
    encoder: Sequence[Attention],
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
