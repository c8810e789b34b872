"""One run of a model with open eyes: its answers, and who looked at what on the way to them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from setmatch.errors import ConfigError, WeightsError
from setmatch.inference.engines.eager import inference_mode
from setmatch.losses.classification import ClassificationLoss
from setmatch.models.detector import Detector
from setmatch.models.detr.model import DETR
from setmatch.models.layers.attention import Attention
from setmatch.models.layers.deformable_attention import DeformableAttention
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import Predictions


@dataclass(frozen=True)
class AttentionMaps:
    """How much each query looked at each cell of the feature map, for every decoder layer and head.

    Cells are counted row by row; together they cover the image.
    """

    weights: Float[Tensor, "L H Q N"]  # those of a query and head add up to 1
    grid: tuple[int, int]  # rows, columns


@dataclass(frozen=True)
class SamplingPoints:
    """Where each query looked, for every decoder layer and head, and how much there.

    `level` says which feature map a point was read from, 0 the finest; off the image lies nothing.
    """

    places: Float[Tensor, "L H Q P 2"]  # x, y as fractions of the image
    weights: Float[Tensor, "L H Q P"]  # those of a query and head add up to 1
    level: Int[Tensor, " P"]


@dataclass(frozen=True)
class QueryPredictions:
    """What every query holds for true: its likeliest class, how likely that is, and its box."""

    class_index: Int[Tensor, " Q"]
    score: Float[Tensor, " Q"]
    cxcywh: Float[Tensor, "Q 4"]  # fractions of the image


@dataclass(frozen=True)
class AttentionTrace:
    """What one image made a model do; everything on the CPU.

    `start` is what the queries held for true before the decoder, where the image chose them;
    `after` the same after each decoder layer, None after layers that are not trained to answer.
    Attention of the encoder and among queries is averaged over heads. An encoder without layers
    leaves E at 0.
    """

    predictions: Predictions
    start: QueryPredictions | None
    after: tuple[QueryPredictions | None, ...]
    cross_attention: AttentionMaps | SamplingPoints
    self_attention: Float[Tensor, "L Q Q"]  # how much each query listened to each other
    encoder: Float[Tensor, "E N N"]  # how much each cell looked at each other
    encoder_grid: tuple[int, int]


def trace_attention(model: Detector, batch: Batch) -> AttentionTrace:
    """Ask a model about a batch of one image, and keep its attention beside its answers.

    The answers are the plain model's, to the bit. Raises ConfigError for a model that is none of
    our detection transformers, WeightsError when its answers are not finite.
    """
    assert batch.pixels.shape[0] == 1, "a recording is of one image"
    refuse_baselines(model)
    with inference_mode(model):
        match model:
            case DETR():
                return _record_global(model, batch)
            case SetMatchDetector():
                return _record_multi_scale(model, batch)
    raise AssertionError("what is none of these was refused")


@contextmanager
def calls(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, tuple[Any, ...]]]:
    """Keep what each of the modules is called with in the block, the last call of each."""
    heard: dict[nn.Module, tuple[Any, ...]] = {}
    handles = [module.register_forward_pre_hook(heard.__setitem__) for module in modules]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def query_predictions(
    logits: Float[Tensor, "Q C"], cxcywh: Float[Tensor, "Q 4"], class_loss: ClassificationLoss
) -> QueryPredictions:
    """Return every query's own best class, even where one query gives several of the answers."""
    # Each query read as an image of its own has nobody to compete with.
    best = class_loss.decode(logits[:, None].float())
    return QueryPredictions(
        best.class_index[:, 0].cpu(), best.score[:, 0].cpu(), cxcywh.float().cpu()
    )


def refuse_baselines(model: Detector) -> None:
    """Raise ConfigError for a model that is none of our detection transformers."""
    if not isinstance(model, DETR | SetMatchDetector):
        raise ConfigError(
            f"model {model.card.preset}: not one of our detection transformers, so that it has no "
            "attention and no queries to show"
        )


def refuse_divergence(predictions: Predictions) -> None:
    """Raise WeightsError for answers that are not finite."""
    if not (predictions.logits.isfinite().all() and predictions.cxcywh.isfinite().all()):
        raise WeightsError(
            "the model answers with scores or boxes that are not finite: its weights have diverged "
            "or are damaged; load earlier ones, or train again with a lower learning rate"
        )


def _record_global(model: DETR, batch: Batch) -> AttentionTrace:
    predictions, heard = _ask(model, model.embed, batch)
    height, width = heard[model.embed][0].shape[-2:]
    decoder = _layers(model.decoder)
    attention = [layer.cross_attention for layer in decoder]
    cross_attention = AttentionMaps(
        torch.stack([each.weights(*_asked(heard[each]))[0].cpu() for each in attention]),
        (height, width),
    )
    return _recording(model, predictions, heard, None, cross_attention, (height, width))


def _record_multi_scale(model: SetMatchDetector, batch: Batch) -> AttentionTrace:
    predictions, heard = _ask(model, model.queries, batch)
    (memory,) = heard[model.queries]
    proposals = model.queries(memory)
    start = query_predictions(proposals.logits[0], proposals.cxcywh[0], model.class_loss)
    attention = [layer.cross_attention for layer in _layers(model.decoder)]
    seen = [each.look(*heard[each][:2]) for each in attention]
    # (Q, H, levels, P) each: heads go first, and the points of all levels side by side.
    places = torch.stack([place[0].transpose(0, 1).flatten(2, 3) for place, _ in seen])
    weights = torch.stack([weight[0].transpose(0, 1).flatten(2) for _, weight in seen])
    level = torch.arange(attention[0].levels).repeat_interleave(attention[0].points)
    cross_attention = SamplingPoints(places.cpu(), weights.cpu(), level)
    return _recording(model, predictions, heard, start, cross_attention, memory.shapes[-1])


def _ask(
    model: DETR | SetMatchDetector, entrance: nn.Module, batch: Batch
) -> tuple[Predictions, dict[nn.Module, tuple[Any, ...]]]:
    """Return the model's answers, and what its attentions and its `entrance` were called with."""
    eyes = [part for part in model.modules() if isinstance(part, Attention | DeformableAttention)]
    with calls([*eyes, entrance]) as heard:
        predictions = model(batch.to(next(model.parameters()).device))[0].predictions
    refuse_divergence(predictions)
    return predictions, heard


def _recording(
    model: DETR | SetMatchDetector,
    predictions: Predictions,
    heard: dict[nn.Module, tuple[Any, ...]],
    start: QueryPredictions | None,
    cross_attention: AttentionMaps | SamplingPoints,
    encoder_grid: tuple[int, int],
) -> AttentionTrace:
    answered = [
        query_predictions(logits[0], cxcywh[0], model.class_loss)
        for logits, cxcywh in zip(predictions.logits, predictions.cxcywh, strict=True)
    ]
    decoder = [layer.self_attention for layer in _layers(model.decoder)]
    encoder = [layer.self_attention for layer in _layers(model.encoder)]
    cells = encoder_grid[0] * encoder_grid[1]
    maps = [_averaged(each, heard) for each in encoder]
    return AttentionTrace(
        replace(predictions, logits=predictions.logits.cpu(), cxcywh=predictions.cxcywh.cpu()),
        start,
        (*[None] * (len(decoder) - len(answered)), *answered),
        cross_attention,
        torch.stack([_averaged(each, heard) for each in decoder]),
        torch.stack(maps) if maps else torch.zeros(0, cells, cells),
        encoder_grid,
    )


def _averaged(
    attention: Attention, heard: dict[nn.Module, tuple[Any, ...]]
) -> Float[Tensor, "Q K"]:
    return attention.weights(*_asked(heard[attention]))[0].mean(0).cpu()


def _asked(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return query, key and what is allowed: an attention's arguments without the values."""
    query, key, _, *attn_mask = arguments
    return query, key, *attn_mask


def _layers(stack: nn.Module) -> list[Any]:
    return list(stack.get_submodule("layers").children())
