"""The report's figures of the worst images: ground truth beside detections, errors by color."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from setmatch.data.image_io import read_image
from setmatch.errors import DataError
from setmatch.evaluation.metrics.error_types import classify_errors
from setmatch.evaluation.metrics.matched_detections import MatchedDetections
from setmatch.evaluation.metrics.worst_images import WorstImage
from setmatch.html.images import Box, jpeg_uri, largest_first

COLORS = {
    "found": "#35d06a",
    "missed": "#ff5252",
    "localization": "#ffab1a",
    "classification": "#c77dff",
    "both": "#d9a066",
    "duplicate": "#4dabff",
    "background": "#ff6ad5",
}
_CROWD_COLOR = "#cfd3d8"
_LONG_SIDE_PX = 640
_MAX_LABELS = 14  # per image; more would hide it
_LETTER_WIDTH = 0.62  # mean, as a fraction of the letter height


@dataclass(frozen=True)
class Label:
    """A text over an image, in pixels of the image."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Panel:
    """One side of a figure: boxes and labels to draw over the image."""

    title: str
    boxes: list[Box]
    labels: list[Label]


@dataclass(frozen=True)
class WorstImageFigure:
    """An image with ground truth and detections; `uri` is None where it cannot be read."""

    image: int
    name: str
    caption: str
    uri: str | None
    size_px: tuple[int, int]  # height, width
    panels: tuple[Panel, Panel]

    @property
    def letter_px(self) -> float:
        """Height of the labels' letters."""
        return max(self.size_px) / 40


def worst_image_figures(
    matched_detections: MatchedDetections, worst: Sequence[WorstImage]
) -> list[WorstImageFigure]:
    """Return a figure for each of the worst images."""
    return [_figure(matched_detections, each) for each in worst]


def _figure(matched_detections: MatchedDetections, worst: WorstImage) -> WorstImageFigure:
    dataset, image = matched_detections.index, worst.image
    size_px = dataset.size_px(image)
    found, missed = worst.true_positives, worst.false_negatives
    caption = (
        f"{found} of {found + missed} objects found, {missed} missed, "
        f"{worst.false_positives} false positives"
    )
    uri = None
    try:
        uri = jpeg_uri(read_image(dataset.path(image), size_px), _LONG_SIDE_PX)
    except DataError as error:  # saved detections can be evaluated without the images
        caption += f"; image not shown: {error}"
    panels = (
        _panel("annotated", _annotated(matched_detections, image), size_px),
        _panel("detected", _detected(matched_detections, image), size_px),
    )
    return WorstImageFigure(image, worst.name, caption, uri, size_px, panels)


def _annotated(matched_detections: MatchedDetections, image: int) -> list[tuple[Box, str]]:
    """Return the box of each annotation, with its label: the class of a missed object."""
    dataset = matched_detections.index
    rows = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
    found = np.isin(rows, matched_detections.truth[matched_detections.shown])
    boxes = []
    for row, is_found in zip(rows.tolist(), found.tolist(), strict=True):
        name = dataset.categories.name(int(dataset.class_indices[row]))
        xywh_px = dataset.xywh_px[row].tolist()
        if dataset.crowd[row]:
            box = Box.from_xywh(xywh_px, _CROWD_COLOR, f"{name}: crowd, not counted", dashed=True)
            boxes.append((box, ""))
        else:
            status = "found" if is_found else "missed"
            box = Box.from_xywh(xywh_px, COLORS[status], f"{name}: {status}")
            boxes.append((box, "" if is_found else name))
    return boxes


def _detected(matched_detections: MatchedDetections, image: int) -> list[tuple[Box, str]]:
    """Return the box of each detection above its threshold; errors are labeled."""
    dataset, results = matched_detections.index, matched_detections.results
    in_image = results.image_ids == dataset.image_ids[image]
    shown = np.flatnonzero(matched_detections.shown & in_image)
    shown = shown[(-results.scores[shown]).argsort(kind="stable")]
    rows = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
    rows = rows[~dataset.crowd[rows]]
    errors = classify_errors(
        results.xywh_px[shown],
        results.class_indices[shown],
        dataset.xywh_px[rows],
        dataset.class_indices[rows].astype(np.int64),
    )
    boxes = []
    for row, error in zip(shown.tolist(), errors, strict=True):
        name = dataset.categories.name(int(results.class_indices[row]))
        label = f"{name} {results.scores[row]:.2f}"
        xywh_px = _rounded(results.xywh_px[row])
        if matched_detections.right[row]:
            boxes.append((Box.from_xywh(xywh_px, COLORS["found"], f"{label}: correct"), ""))
        else:
            boxes.append((Box.from_xywh(xywh_px, COLORS[error], f"{label}: {error}"), label))
    return boxes


def _panel(title: str, boxes: Sequence[tuple[Box, str]], size_px: tuple[int, int]) -> Panel:
    labeled = [(box, text) for box, text in boxes if text]
    labels = _labels(labeled[:_MAX_LABELS], size_px)
    return Panel(title, largest_first([box for box, _ in boxes]), labels)


def _labels(labeled: Sequence[tuple[Box, str]], size_px: tuple[int, int]) -> list[Label]:
    """Place labels at the top left of their boxes, lower where another label is in the way."""
    height_px, width_px = size_px
    letter_px = max(size_px) / 40
    labels: list[Label] = []
    taken: list[tuple[float, float, float]] = []  # left, right, baseline
    for box, text in labeled:
        text_width = _LETTER_WIDTH * letter_px * len(text)
        left = max(0.0, min(max(box.x, 0) + letter_px / 4, width_px - text_width))
        baseline = max(box.y, 0) + letter_px
        for other_left, other_right, other_baseline in sorted(taken, key=lambda each: each[2]):
            overlaps = left < other_right and other_left < left + text_width
            if overlaps and abs(baseline - other_baseline) < letter_px:
                baseline = other_baseline + 1.1 * letter_px
        if baseline < height_px:
            taken.append((left, left + text_width, baseline))
            labels.append(Label(round(left, 1), round(baseline, 1), text))
    return labels


def _rounded(xywh_px: Float64[np.ndarray, " 4"]) -> list[float]:
    rounded: list[float] = xywh_px.round(1).tolist()
    return rounded
