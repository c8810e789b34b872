"""The report's figures of the worst images: ground truth beside detections, errors by style."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from setmatch.data.images.image_io import read_image
from setmatch.errors import DataError
from setmatch.evaluation.metrics.error_types import classify_errors
from setmatch.evaluation.metrics.matched_detections import MatchedDetections
from setmatch.evaluation.metrics.worst_images import WorstImage
from setmatch.html.charts import LegendEntry
from setmatch.html.images import Box, Label, jpeg_uri, labels_of, largest_first

# Every kind of error has a color, a pattern of its boxes, and a sign in its labels.
STYLES = {
    style.name: style
    for style in (
        LegendEntry("found", "#35d06a"),
        LegendEntry("missed", "#ff5252", "9 5", "○"),
        LegendEntry("localization", "#ffab1a", "12 3 2 3", "↔"),
        LegendEntry("classification", "#c77dff", "2 3", "≠"),
        LegendEntry("both", "#d9a066", "9 3 2 3 2 3", "≠↔"),
        LegendEntry("duplicate", "#4dabff", "4 2", "2×"),
        LegendEntry("background", "#ff6ad5", "16 4", "+"),
    )
}
_CROWD = LegendEntry("crowd", "#cfd3d8", "2 6")
_LARGE = 12  # figures with a large image; the others are thumbnails
_LARGE_PX, _THUMBNAIL_PX = 640, 320
_MAX_CHARACTERS = 4_000_000  # of all figures, so that the page opens at once


@dataclass(frozen=True)
class ErrorCount:
    """How many errors of one kind an image has in one class."""

    kind: str
    class_name: str
    count: int


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
    errors: tuple[ErrorCount, ...]

    @property
    def letter_px(self) -> float:
        """Height of the labels' letters."""
        return _letter_px(self.size_px)

    @property
    def error_rows(self) -> list[tuple[str, str, int]]:
        """The errors as gallery.js reads them: kind, class, count."""
        return [(each.kind, each.class_name, each.count) for each in self.errors]

    @property
    def characters(self) -> int:
        """About how many characters the figure takes in the page."""
        boxes = sum(len(panel.boxes) + len(panel.labels) for panel in self.panels)
        return len(self.uri or "") + 160 * boxes


def worst_image_figures(
    matched_detections: MatchedDetections, worst: Sequence[WorstImage]
) -> list[WorstImageFigure]:
    """Return a figure for each of the worst images, as many as the page can hold.

    The images after the first dozen are thumbnails.
    """
    figures: list[WorstImageFigure] = []
    left = _MAX_CHARACTERS
    for number, each in enumerate(worst):
        side_px = _LARGE_PX if number < _LARGE else _THUMBNAIL_PX
        figure = _figure(matched_detections, each, side_px)
        left -= figure.characters
        if left < 0:
            break
        figures.append(figure)
    return figures


def _figure(
    matched_detections: MatchedDetections, worst: WorstImage, long_side_px: int
) -> WorstImageFigure:
    dataset, image = matched_detections.index, worst.image
    size_px = dataset.size_px(image)
    found, missed = worst.true_positives, worst.false_negatives
    caption = (
        f"{found} of {found + missed} objects found, {missed} missed, "
        f"{worst.false_positives} false positives"
    )
    uri = None
    try:
        uri = jpeg_uri(read_image(dataset.path(image), size_px), long_side_px)
    except DataError as error:  # saved detections can be evaluated without the images
        caption += f"; image not shown: {error}"
    annotated = _annotated(matched_detections, image)
    detected = _detected(matched_detections, image)
    counts = Counter(
        (each.kind, each.class_name) for each in (*annotated, *detected) if each.is_error
    )
    return WorstImageFigure(
        image,
        worst.name,
        caption,
        uri,
        size_px,
        (_panel("annotated", annotated, size_px), _panel("detected", detected, size_px)),
        tuple(ErrorCount(*kind, count) for kind, count in sorted(counts.items())),
    )


@dataclass(frozen=True)
class _Mark:
    """An object or a detection of a figure: its kind of error, or "found" or "crowd"."""

    kind: str
    class_name: str
    box: Box
    label: str = ""

    @property
    def is_error(self) -> bool:
        return self.kind not in ("found", "crowd")


def _mark(kind: str, class_name: str, text: str, xywh_px: Sequence[float], title: str) -> _Mark:
    style = STYLES.get(kind, _CROWD)
    box = Box.from_xywh(xywh_px, style.color, title, style.dash)
    return _Mark(kind, class_name, box, f"{style.sign} {text}" if style.sign else "")


def _annotated(matched_detections: MatchedDetections, image: int) -> list[_Mark]:
    """Return the annotations of an image; missed objects are labeled with their class."""
    dataset = matched_detections.index
    rows = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
    found = np.isin(rows, matched_detections.truth[matched_detections.shown])
    marks = []
    for row, is_found in zip(rows.tolist(), found.tolist(), strict=True):
        name = dataset.categories.name(int(dataset.class_indices[row]))
        xywh_px = dataset.xywh_px[row].tolist()
        if dataset.crowd[row]:
            marks.append(_mark("crowd", name, "", xywh_px, f"{name}: crowd, not counted"))
        else:
            kind = "found" if is_found else "missed"
            marks.append(_mark(kind, name, name, xywh_px, f"{name}: {kind}"))
    return marks


def _detected(matched_detections: MatchedDetections, image: int) -> list[_Mark]:
    """Return the detections of an image above their thresholds; errors are labeled."""
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
    marks = []
    for row, error in zip(shown.tolist(), errors, strict=True):
        name = dataset.categories.name(int(results.class_indices[row]))
        label = f"{name} {results.scores[row]:.2f}"
        is_right = bool(matched_detections.right[row])
        kind, verdict = ("found", "correct") if is_right else (error, error)
        xywh_px = _rounded(results.xywh_px[row])
        marks.append(_mark(kind, name, label, xywh_px, f"{label}: {verdict}"))
    return marks


def _panel(title: str, marks: Sequence[_Mark], size_px: tuple[int, int]) -> Panel:
    labels = labels_of([(mark.box, mark.label) for mark in marks], size_px, _letter_px(size_px))
    return Panel(title, largest_first([mark.box for mark in marks]), labels)


def _letter_px(size_px: tuple[int, int]) -> float:
    return max(size_px) / 40


def _rounded(xywh_px: Float64[np.ndarray, " 4"]) -> list[float]:
    rounded: list[float] = xywh_px.round(1).tolist()
    return rounded
