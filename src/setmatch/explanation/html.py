"""The page that answers why: everything a click may ask for lies in it, compressed."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from setmatch.explanation.compression import Packed, pack, pack_looks, pack_places, text
from setmatch.explanation.explained_image import ExplainedImage
from setmatch.files import atomic_file
from setmatch.ops.colors import css_color_of
from setmatch.structures.attention import AttentionMaps, QueryPredictions, SamplingPoints

_SCRIPTS = ("decode", "heatmap", "boxes", "panel", "events")
# Together with picture, boxes and self-attention below 8 MB.
_LOOKS_BUDGET = 3_000_000
_PLACES_BUDGET = 3_000_000
_MOST_QUERIES = 300
_LONG_SIDE_PX = 1280
_PLACE_STEPS = 65535  # sampling points lie on a grid of so many steps, -1 to 2 on either axis


def write_page(explanation: ExplainedImage, path: Path) -> None:
    """Write one self-contained HTML page below 8 MB; what it shows is computed in the browser."""
    # "<" would let a name close the script; JSON has another way to write it.
    facts = json.dumps(page_facts(explanation), ensure_ascii=False).replace("<", "\\u003c")
    page = _part("page.html")
    for mark, part in (
        ("/*style*/", _part("page.css")),
        ("/*script*/", "\n".join(_part(f"{name}.js") for name in _SCRIPTS)),
        ("/*facts*/", facts),
    ):
        page = page.replace(mark, part)
    with atomic_file(path) as aside:
        aside.write_text(page, encoding="utf-8")


def page_facts(explanation: ExplainedImage) -> dict[str, Any]:
    """Return all that the page knows, ready for JSON.

    Queries are numbered by their slots; only the best are there where a model has very many.
    """
    trace = explanation.trace
    last = trace.after[-1]
    assert last is not None, "the last layer answers"
    best = last.score.topk(min(_MOST_QUERIES, len(last.score))).indices.sort().values
    steps, answers = _steps(explanation, best)
    kept = set(best.tolist())
    categories = explanation.card.categories
    return {
        "name": explanation.name,
        "model": explanation.card.preset,
        "size": [explanation.image.shape[2], explanation.image.shape[1]],
        "picture": _embedded(explanation),
        "threshold": explanation.threshold,
        "classes": [
            {
                "name": categories.name(class_index),
                "color": css_color_of(class_index),
            }
            for class_index in range(len(categories))
        ],
        "slots": best.tolist(),
        "ofQueries": len(last.score),
        "found": [
            {"query": query, "slot": class_index, "score": round(score, 4)}
            for query, class_index, score in zip(
                explanation.queries.tolist(),
                explanation.detections.classes.tolist(),
                explanation.detections.scores.tolist(),
                strict=True,
            )
            if query in kept
        ],
        "steps": steps,
        "answers": answers,
        "heads": trace.cross_attention.weights.shape[1],
        "looks": _looks(trace.cross_attention, best),
        "talks": pack(trace.self_attention[:, best][:, :, best].flatten(0, 1)),
        "encoderLayers": len(trace.encoder),
        "places": pack_places(trace.encoder, trace.encoder_grid, _PLACES_BUDGET)
        if len(trace.encoder)
        else None,
    }


def _steps(
    explanation: ExplainedImage, best: Tensor
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the way of the queries to their answer: its steps, and what was believed at them."""
    steps: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []

    def step(name: str, look: int | None, believed: QueryPredictions | None) -> None:
        steps.append({"name": name, "look": look, "answer": None})
        if believed is not None:
            steps[-1]["answer"] = len(answers)
            answers.append(_believed(believed, best))

    if explanation.trace.start is not None:
        step("the encoder's proposal", None, explanation.trace.start)
    for layer, believed in enumerate(explanation.trace.after):
        step(f"decoder layer {layer + 1}", layer, believed)
    return steps, answers


def _believed(believed: QueryPredictions, best: Tensor) -> dict[str, Any]:
    return {
        "slots": believed.class_index[best].tolist(),
        "scores": _rounded(believed.score[best]),
        "boxes": _rounded(believed.cxcywh[best]),
    }


def _looks(cross_attention: AttentionMaps | SamplingPoints, best: Tensor) -> Packed:
    weights = cross_attention.weights[:, :, best]
    if isinstance(cross_attention, AttentionMaps):
        return {"kind": "maps", **pack_looks(weights, cross_attention.grid, _LOOKS_BUDGET)}
    spread = (cross_attention.places[:, :, best].clamp(-1, 2) + 1) / 3
    return {
        "kind": "points",
        "points": weights.shape[-1],
        "level": cross_attention.level.tolist(),
        "places": text((spread * _PLACE_STEPS).round().numpy().astype("uint16")),
        "weights": text(weights.float().numpy()),
    }


def _embedded(explanation: ExplainedImage) -> str:
    picture = Image.fromarray(explanation.image.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((_LONG_SIDE_PX, _LONG_SIDE_PX))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"


def _part(name: str) -> str:
    return (Path(__file__).with_name("view") / name).read_text("utf-8")


def _rounded(values: Float[Tensor, "*n"]) -> Any:
    return torch.round(values.double(), decimals=4).tolist()
