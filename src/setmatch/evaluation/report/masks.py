"""The report's section about masks: panoptic quality, mask AP, and the worst segmentations."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.image_io import read_image
from setmatch.errors import DataError
from setmatch.evaluation.metrics.coco import AveragePrecision
from setmatch.evaluation.metrics.panoptic import PanopticQuality
from setmatch.evaluation.metrics.worst_images import WorstSegmentation
from setmatch.html.images import jpeg_uri
from setmatch.html.tables import Bar, Row, Table, percent
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments
from setmatch.visualize.segments import draw_segments

if TYPE_CHECKING:
    from setmatch.evaluation.results import Report

_LONG_SIDE_PX = 640


@dataclass(frozen=True)
class SegmentationFigure:
    """An image with annotated and with predicted segments drawn on it, as data URIs."""

    name: str
    caption: str
    annotated_uri: str
    predicted_uri: str


@dataclass(frozen=True)
class MaskSection:
    """Tables and figures about masks; `figures` None means that there are no segments."""

    quality: Table | None
    figures: list[SegmentationFigure] | None
    precision: Table | None


def mask_section(
    report: "Report", dataset: DetectionDataset, worst: Sequence[WorstSegmentation]
) -> MaskSection:
    """Return what the report knows of panoptic quality and mask AP."""
    panoptic, masks = report.panoptic, report.masks
    return MaskSection(
        None if panoptic is None else _quality_table(panoptic, dataset.categories),
        None if panoptic is None else [_figure(dataset, each) for each in worst],
        None if masks is None else _precision_table(report, masks),
    )


def _quality_table(quality: PanopticQuality, categories: Categories) -> Table:
    groups = {"all": quality.all, "things": quality.things, "stuff": quality.stuff}
    stuff = {categories.name(class_index) for class_index in categories.stuff}
    things = quality.per_class.keys() - stuff
    names_of = {"all": things | stuff, "things": things, "stuff": stuff}
    rows = [
        Row(
            (
                f"{name}, {group.classes} class{'' if group.classes == 1 else 'es'}",
                Bar(group.PQ),
                *map(percent, (group.PQ, group.SQ, group.RQ)),
                *(f"{count:,}" for count in _counts(quality, names_of[name])),
            ),
            bold=True,
        )
        for name, group in groups.items()
        if group.classes
    ]
    present = {
        name: each for name, each in quality.per_class.items() if each.tp or each.fn or each.fp
    }
    rows += [
        Row(
            (
                name,
                Bar(each.PQ),
                *map(percent, (each.PQ, each.SQ if each.tp else -1, each.RQ)),
                *(f"{count:,}" for count in (each.tp, each.fn, each.fp)),
            )
        )
        for name, each in sorted(present.items(), key=lambda item: -item[1].PQ)
    ]
    return Table(("", "", "PQ", "SQ", "RQ", "TP", "FN", "FP"), rows)


def _counts(quality: PanopticQuality, names: Set[str]) -> list[int]:
    """Return TP, FN and FP of some classes together."""
    chosen = [quality.per_class[name] for name in names]
    return [sum(getattr(each, count) for each in chosen) for count in ("tp", "fn", "fp")]


def _precision_table(report: "Report", masks: AveragePrecision) -> Table:
    rows = [
        Row(
            (
                name,
                Bar(each.AP),
                *map(percent, (each.AP, each.AP50)),
                *map(percent, (report.per_class[name].AP, report.per_class[name].AP50)),
                f"{each.boxes:,}",
            )
        )
        for name, each in sorted(masks.per_class.items(), key=lambda item: -item[1].AP)
    ]
    objects = sum(each.boxes for each in masks.per_class.values())
    means = (percent(masks.AP), percent(masks.AP50), *_mean_box_precision(report, masks))
    total = Row(("all", Bar(masks.AP), *means, f"{objects:,}"), bold=True)
    return Table(("", "", "mask AP", "AP50", "box AP", "AP50", "objects"), [total, *rows])


def _mean_box_precision(report: "Report", masks: AveragePrecision) -> tuple[str, str]:
    """Return box AP and AP50, averaged over the classes that have masks."""
    boxes = [report.per_class[name] for name, each in masks.per_class.items() if each.boxes]
    if not boxes:
        return "–", "–"
    return (
        percent(sum(each.AP for each in boxes) / len(boxes)),
        percent(sum(each.AP50 for each in boxes) / len(boxes)),
    )


def _figure(dataset: DetectionDataset, worst: WorstSegmentation) -> SegmentationFigure:
    counts, image = worst.pq_stat, worst.image
    quality = float(counts.overlap.sum()) / max(worst.denominator, 0.5)
    caption = (
        f"PQ {percent(quality)}: {counts.tp.sum()} true positives, "
        f"{counts.fn.sum()} false negatives, {counts.fp.sum()} false positives"
    )
    size_px = dataset.size_px(image)
    try:
        pixels = read_image(dataset.path(image), size_px).permute(1, 2, 0).numpy()
    except DataError as error:  # saved detections can be evaluated without the images
        pixels = np.full((*size_px, 3), 128, dtype=np.uint8)
        caption += f"; image not shown: {error}"
    return SegmentationFigure(
        dataset.name(image),
        caption,
        _drawn_uri(pixels, dataset.segments(image)),
        _drawn_uri(pixels, worst.predicted),
    )


def _drawn_uri(pixels: np.ndarray, segments: Segments) -> str:
    """Draw segments on an image resized to one long side, so that names are equally legible."""
    height, width = pixels.shape[:2]
    factor = _LONG_SIDE_PX / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    ids = Image.fromarray(segments.ids.numpy()).resize(size, Image.Resampling.NEAREST)
    resized = Segments(
        torch.from_numpy(np.array(ids)), segments.classes, segments.scores, segments.categories
    )
    drawn = np.array(draw_segments(image, resized))
    return jpeg_uri(torch.from_numpy(drawn).permute(2, 0, 1), _LONG_SIDE_PX)
