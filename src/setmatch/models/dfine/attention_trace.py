"""D-FINE's attention: every query samples a few points of every level."""

from typing import TYPE_CHECKING, Any

import torch

from setmatch.models.attention_trace import make_trace, record_calls
from setmatch.postprocessing.query_predictions import query_predictions, require_finite
from setmatch.structures.attention import AttentionTrace, SamplingPoints
from setmatch.structures.batch import Batch

if TYPE_CHECKING:
    from setmatch.models.dfine.model import DFineDetector


def trace_dfine(model: "DFineDetector", batch: Batch) -> AttentionTrace:
    """Return the attention of a model in evaluation mode on a batch of one image.

    Raises WeightsError if its predictions are not finite.
    """
    encoder_self: list[Any] = [layer.self_attention for layer in model.encoder.layers]
    decoder_self: list[Any] = [layer.self_attention for layer in model.decoder.layers]
    cross: list[Any] = [layer.cross_attention for layer in model.decoder.layers]
    with record_calls([*encoder_self, *decoder_self, *cross, model.queries]) as calls:
        predictions = model(batch)[0].predictions
    require_finite(predictions)
    (memory,) = calls[model.queries]
    proposals = model.queries(memory)
    start = query_predictions(proposals.logits[0], proposals.cxcywh[0], model.class_loss)
    sampled = [each.sampling_points(*calls[each][:2]) for each in cross]
    places = torch.stack([place[0].transpose(0, 1) for place, _ in sampled])
    weights = torch.stack([weight[0].transpose(0, 1) for _, weight in sampled])
    points = torch.tensor(cross[0].points)
    level = torch.arange(len(points)).repeat_interleave(points)
    return make_trace(
        predictions,
        model.class_loss,
        start,
        SamplingPoints(places.cpu(), weights.cpu(), level),
        decoder_self,
        encoder_self,
        memory.shapes[-1],
        calls,
    )
