"""Write the explain page: all attention and predictions in one file, explored in the browser."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.explanation.compression import (
    PackedMaps,
    encode,
    pack,
    pack_cross_attention,
    pack_encoder_attention,
)
from setmatch.explanation.explained_image import ExplainedImage
from setmatch.html.images import jpeg_uri
from setmatch.html.page import write
from setmatch.ops.colors import css_color_of
from setmatch.structures.attention import AttentionMaps, QueryPredictions, SamplingPoints

# Together with image, boxes and self-attention below 8 MB.
_CROSS_ATTENTION_BUDGET = 3_000_000
_ENCODER_ATTENTION_BUDGET = 3_000_000
_MAX_QUERIES = 300
_LONG_SIDE_PX = 1280
_JPEG_QUALITY = 85
_POINT_STEPS = 65535  # sampling points are quantized to so many steps from -1 to 2 on either axis


def write_page(explanation: ExplainedImage, path: Path) -> None:
    """Write one self-contained HTML page below 8 MB; the browser computes what it shows."""
    write(path, "explanation/view/explain.html", facts=page_facts(explanation))


def page_facts(explanation: ExplainedImage) -> dict[str, Any]:
    """Return all data of the page, ready for JSON.

    A model with very many queries keeps only the 300 best. Other entries number the queries by
    their position in `queryIds`.
    """
    trace = explanation.trace
    last = trace.after[-1]
    assert last is not None, "the last layer always predicts"
    best = last.score.topk(min(_MAX_QUERIES, len(last.score))).indices.sort().values
    steps, predictions = _steps(explanation, best)
    categories, least = explanation.card.categories, explanation.threshold
    return {
        "name": explanation.name,
        "model": explanation.card.preset,
        "size": [explanation.image.shape[2], explanation.image.shape[1]],
        "image": jpeg_uri(explanation.image, _LONG_SIDE_PX, _JPEG_QUALITY),
        "threshold": None if isinstance(least, tuple) else least,
        "thresholds": least if isinstance(least, tuple) else None,
        "classes": [
            {
                "name": categories.name(class_index),
                "color": css_color_of(class_index),
            }
            for class_index in range(len(categories))
        ],
        "queryIds": best.tolist(),
        "numQueries": len(last.score),
        "detections": _detections(explanation, set(best.tolist())),
        "steps": steps,
        "predictions": predictions,
        "heads": trace.cross_attention.weights.shape[1],
        "crossAttention": _cross_attention(trace.cross_attention, best),
        "selfAttention": pack(trace.self_attention[:, best][:, :, best].flatten(0, 1)),
        "encoderLayers": len(trace.encoder),
        "encoderAttention": pack_encoder_attention(
            trace.encoder, trace.encoder_grid, _ENCODER_ATTENTION_BUDGET
        )
        if len(trace.encoder)
        else None,
    }


def _detections(explanation: ExplainedImage, query_ids: set[int]) -> list[dict[str, Any]]:
    rows = zip(
        explanation.queries.tolist(),
        explanation.detections.classes.tolist(),
        explanation.detections.scores.tolist(),
        strict=True,
    )
    return [
        {"queryId": query_id, "classIndex": class_index, "score": round(score, 4)}
        for query_id, class_index, score in rows
        if query_id in query_ids
    ]


def _steps(
    explanation: ExplainedImage, best: Tensor
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the steps (encoder proposal, decoder layers), and the predictions that exist.

    `prediction` of a step indexes the second list; it is None for layers without a trained head.
    """
    steps: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []

    def add(name: str, layer: int | None, predicted: QueryPredictions | None) -> None:
        steps.append({"name": name, "layer": layer, "prediction": None})
        if predicted is not None:
            steps[-1]["prediction"] = len(predictions)
            predictions.append(_prediction(predicted, best))

    if explanation.trace.start is not None:
        add("encoder proposal", None, explanation.trace.start)
    for layer, predicted in enumerate(explanation.trace.after):
        add(f"decoder layer {layer + 1}", layer, predicted)
    return steps, predictions


def _prediction(predicted: QueryPredictions, best: Tensor) -> dict[str, Any]:
    return {
        "classIndices": predicted.class_index[best].tolist(),
        "scores": _rounded(predicted.score[best]),
        "boxes": _rounded(predicted.cxcywh[best]),
    }


def _cross_attention(cross_attention: AttentionMaps | SamplingPoints, best: Tensor) -> PackedMaps:
    weights = cross_attention.weights[:, :, best]
    if isinstance(cross_attention, AttentionMaps):
        maps = pack_cross_attention(weights, cross_attention.grid, _CROSS_ATTENTION_BUDGET)
        return {"kind": "maps", **maps}
    unit = (cross_attention.places[:, :, best].clamp(-1, 2) + 1) / 3
    return {
        "kind": "points",
        "points": weights.shape[-1],
        "level": cross_attention.level.tolist(),
        "positions": encode((unit * _POINT_STEPS).round().numpy().astype("uint16")),
        "weights": encode(weights.float().numpy()),
    }


def _rounded(values: Float[Tensor, "*n"]) -> Any:
    return torch.round(values.double(), decimals=4).tolist()
