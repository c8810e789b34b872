"""The worst images, truth beside answer: each picture once in the page, its boxes drawn twice."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from setmatch.data.image_io import read_image
from setmatch.errors import DataError
from setmatch.evaluation.metrics.error_types import classify_errors
from setmatch.evaluation.metrics.matched_detections import MatchedDetections
from setmatch.evaluation.metrics.worst_images import WorstImage
from setmatch.html.images import jpeg_uri

COLORS = {
    "found": "#35d06a",
    "missed": "#ff5252",
    "localization": "#ffab1a",
    "classification": "#c77dff",
    "both": "#d9a066",
    "duplicate": "#4dabff",
    "background": "#ff6ad5",
    "crowd": "#cfd3d8",
}
_LONG_SIDE_PX = 640
_OPEN = 6  # images that are seen without a click
_LABELED = 14  # boxes of a picture; more would hide it
_LETTER = 0.62  # of the height of letters is their mean width


@dataclass(frozen=True)
class _Box:
    """A box with its color's name, what it tells when pointed at, and its label, if any."""

    xywh_px: Sequence[float]
    color: str
    told: str
    label: str


def gallery(matched_detections: MatchedDetections, worst: Sequence[WorstImage]) -> str:
    """Return what the colors mean and a figure for each image, the later ones folded away."""
    if not worst:
        return "<p>No image has a mistake.</p>"
    named = "".join(
        f'<span><i style="background:{color}"></i>{name}</span>'
        for name, color in COLORS.items()
        if name != "crowd"
    )
    figures = [_figure(matched_detections, mistakes) for mistakes in worst]
    more = "".join(figures[_OPEN:])
    folded = f"<details><summary>{len(figures) - _OPEN} more</summary>{more}</details>"
    shown = "".join(figures[:_OPEN])
    return f'<div class="legend">{named}</div>{shown}{folded if more else ""}'


def _figure(matched_detections: MatchedDetections, mistakes: WorstImage) -> str:
    index, image = matched_detections.index, mistakes.image
    size_px = index.size_px(image)
    picture, trouble = "", ""
    try:
        uri = jpeg_uri(read_image(index.path(image), size_px), _LONG_SIDE_PX)
        picture = (
            f'<image id="picture{image}" href="{uri}" width="{size_px[1]}" height="{size_px[0]}"/>'
        )
    except DataError as error:  # the numbers need no pictures; a file of detections may be all
        trouble = f"; without the picture: {error}"
    again = f'<use href="#picture{image}"/>' if picture else ""
    truth, answer = _truth(matched_detections, image), _answer(matched_detections, image)
    objects = mistakes.found + mistakes.missed
    told = (
        f"found {mistakes.found} of {objects}, missed {mistakes.missed}, "
        f"false alarms {mistakes.false_alarms}{trouble}"
    )
    name = html.escape(mistakes.name)
    return (
        f'<figure class="worst"><div class="pair">{_drawing("annotated", picture, truth, size_px)}'
        f"{_drawing('found', again, answer, size_px)}</div>"
        f"<figcaption><b>{name}</b>: {html.escape(told)}</figcaption></figure>"
    )


def _truth(matched_detections: MatchedDetections, image: int) -> list[_Box]:
    index = matched_detections.index
    rows = np.arange(index.offsets[image], index.offsets[image + 1])
    found = np.isin(rows, matched_detections.truth[matched_detections.shown])
    boxes = []
    for row, hit in zip(rows.tolist(), found.tolist(), strict=True):
        name = index.categories.name(int(index.class_indices[row]))
        if index.crowd[row]:
            color, told = "crowd", f"{name}: a crowd, which does not count"
        else:
            color, told = ("found", f"{name}: found") if hit else ("missed", f"{name}: missed")
        label = name if color == "missed" else ""
        boxes.append(_Box(index.xywh_px[row].tolist(), color, told, label))
    return boxes


def _answer(matched_detections: MatchedDetections, image: int) -> list[_Box]:
    index, results = matched_detections.index, matched_detections.results
    here = np.flatnonzero(matched_detections.shown & (results.image_ids == index.image_ids[image]))
    here = here[(-results.scores[here]).argsort(kind="stable")]
    rows = np.arange(index.offsets[image], index.offsets[image + 1])
    rows = rows[~index.crowd[rows]]
    kinds = classify_errors(
        results.xywh_px[here],
        results.class_indices[here],
        index.xywh_px[rows],
        index.class_indices[rows].astype(np.int64),
    )
    boxes = []
    for row, kind in zip(here.tolist(), kinds, strict=True):
        named = (
            f"{index.categories.name(int(results.class_indices[row]))} {results.scores[row]:.2f}"
        )
        right = bool(matched_detections.right[row])
        boxes.append(
            _Box(
                _rounded(results.xywh_px[row]),
                "found" if right else kind,
                f"{named}: {'right' if right else kind}",
                "" if right else named,
            )
        )
    return boxes


def _drawing(what: str, picture: str, boxes: Sequence[_Box], size_px: tuple[int, int]) -> str:
    height, width = size_px
    letters = max(size_px) / 40
    larger_first = sorted(boxes, key=lambda box: -box.xywh_px[2] * box.xywh_px[3])
    parts = [picture]
    for box in larger_first:
        x, y, w, h = box.xywh_px
        crowd = ' class="crowd"' if box.color == "crowd" else ""
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{max(w, 0):g}" height="{max(h, 0):g}" '
            f'stroke="{COLORS[box.color]}"{crowd}><title>{html.escape(box.told)}</title></rect>'
        )
    labeled = [box for box in boxes if box.label]
    for box in labeled[:_LABELED]:
        x, y = max(box.xywh_px[0], 0) + letters / 4, max(box.xywh_px[1], 0) + letters
        x = max(0.0, min(x, width - _LETTER * letters * len(box.label)))  # not cut by the edge
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{letters:.1f}" '
            f'stroke-width="{letters / 4:.1f}">{html.escape(box.label)}</text>'
        )
    return (
        f'<div><p class="soft">{what}</p><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{what}">{"".join(parts)}</svg></div>'
    )


def _rounded(xywh_px: Float64[np.ndarray, " 4"]) -> list[float]:
    rounded: list[float] = xywh_px.round(1).tolist()
    return rounded
