"""The part of the report's page about masks: panoptic quality, mask AP, the worst images."""

import html
from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from setmatch.data.dataset import DetectionDataset
from setmatch.data.image_io import read_image
from setmatch.errors import DataError
from setmatch.evaluation.metrics.average_precision import AveragePrecision
from setmatch.evaluation.metrics.panoptic_quality import PanopticQuality
from setmatch.evaluation.metrics.worst_images import WorstSegmentation
from setmatch.evaluation.report.tables import BAR, bar, per_cent, table
from setmatch.html.images import jpeg_uri
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments
from setmatch.visualize import draw_segments

if TYPE_CHECKING:
    from setmatch.evaluation.results import Report

_LONG_SIDE_PX = 640
_OPEN = 4  # images that are seen without a click


def mask_section(
    report: "Report", index: DetectionDataset, worst: Sequence[WorstSegmentation]
) -> str:
    """Return what there is to say about segments and masks; nothing where there are none."""
    parts: list[str] = []
    if report.panoptic is not None:
        parts += _quality(report.panoptic, index.categories)
        parts += _gallery(index, worst)
    if report.masks is not None:
        parts += _masks(report, report.masks)
    return "".join(parts)


def _quality(quality: PanopticQuality, categories: Categories) -> Iterator[str]:
    yield (
        "<h2>Panoptic quality</h2>"
        '<p class="lead soft">Of all pixels together: a segment is right when it agrees with one '
        "that is there in class, and in more than half of their pixels. RQ says how many are "
        "right, SQ how well those fit, and PQ = SQ × RQ is both (arXiv 1801.00868).</p>"
    )
    groups = {"all": quality.all, "things": quality.things, "stuff": quality.stuff}
    stuff = {categories.name(class_index) for class_index in categories.stuff}
    things = quality.per_class.keys() - stuff
    of_group = {"all": things | stuff, "things": things, "stuff": stuff}
    rows = [
        (
            f"<b>{name}</b>, {group.classes} classes",
            bar(group.PQ),
            *(f"<b>{per_cent(value)}</b>" for value in (group.PQ, group.SQ, group.RQ)),
            *(f"<b>{count:,}</b>" for count in _counts(quality, of_group[name])),
        )
        for name, group in groups.items()
        if group.classes
    ]
    there = {
        name: each for name, each in quality.per_class.items() if each.tp or each.fn or each.fp
    }
    rows += [
        (
            html.escape(name),
            bar(each.PQ),
            *map(per_cent, (each.PQ, each.SQ if each.tp else -1, each.RQ)),
            *(f"{count:,}" for count in (each.tp, each.fn, each.fp)),
        )
        for name, each in sorted(there.items(), key=lambda item: -item[1].PQ)
    ]
    head = ("", BAR, "PQ", "SQ", "RQ", "matched", "missed", "invented")
    yield f'<div class="wide">{table(head, rows)}</div>'


def _masks(report: "Report", masks: AveragePrecision) -> Iterator[str]:
    yield (
        "<h2>Masks</h2>"
        '<p class="lead soft">AP of things one by one, by the overlap of their masks, and beside '
        "it by that of their boxes. Stuff is not counted one by one.</p>"
    )
    rows = [
        (
            html.escape(name),
            bar(each.AP),
            *map(per_cent, (each.AP, each.AP50)),
            *map(per_cent, (report.per_class[name].AP, report.per_class[name].AP50)),
            f"{each.boxes:,}",
        )
        for name, each in sorted(masks.per_class.items(), key=lambda item: -item[1].AP)
    ]
    mean = (f"<b>{per_cent(value)}</b>" for value in (masks.AP, masks.AP50))
    objects = sum(each.boxes for each in masks.per_class.values())
    rows.insert(0, ("<b>all</b>", bar(masks.AP), *mean, *_box_means(report, masks), f"{objects:,}"))
    head = ("", BAR, "mask AP", "AP50", "box AP", "AP50", "objects")
    yield f'<div class="wide">{table(head, rows)}</div>'


def _box_means(report: "Report", masks: AveragePrecision) -> list[str]:
    """Return AP and AP50 of the boxes of the classes that have masks."""
    found = [report.per_class[name] for name in masks.per_class if masks.per_class[name].boxes]
    if not found:
        return ["–", "–"]
    means = (sum(each.AP for each in found), sum(each.AP50 for each in found))
    return [f"<b>{per_cent(total / len(found))}</b>" for total in means]


def _counts(quality: PanopticQuality, names: Set[str]) -> list[int]:
    """Return how many segments of some classes are matched, missed, invented."""
    chosen = [quality.per_class[name] for name in names]
    return [sum(getattr(each, what) for each in chosen) for what in ("tp", "fn", "fp")]


def _gallery(index: DetectionDataset, worst: Sequence[WorstSegmentation]) -> Iterator[str]:
    yield "<h3>The worst segments</h3>"
    if not worst:
        yield "<p>Every segment of every image is right to the pixel.</p>"
        return
    yield (
        '<p class="lead soft">What is annotated, and what the model answers: the images whose '
        "quality lacks most.</p>"
    )
    figures = [_figure(index, each) for each in worst]
    yield from figures[:_OPEN]
    if figures[_OPEN:]:
        more = "".join(figures[_OPEN:])
        yield f"<details><summary>{len(figures) - _OPEN} more</summary>{more}</details>"


def _figure(index: DetectionDataset, mistaken: WorstSegmentation) -> str:
    pq_stat, image = mistaken.pq_stat, mistaken.image
    quality = float(pq_stat.overlap.sum()) / max(mistaken.denominator, 0.5)
    told = (
        f"PQ {per_cent(quality)} in this image; "
        f"matched {pq_stat.tp.sum()}, missed {pq_stat.fn.sum()}, "
        f"invented {pq_stat.fp.sum()}"
    )
    size_px, trouble = index.size_px(image), ""
    try:
        pixels = read_image(index.path(image), size_px).permute(1, 2, 0).numpy()
    except DataError as error:  # the numbers need no pictures; the segments may be all
        pixels, trouble = np.full((*size_px, 3), 128, dtype=np.uint8), f"; without picture: {error}"
    drawn = (
        f'<div><p class="soft">{what}</p><img alt="{what}" src="{_drawn(pixels, segments)}"></div>'
        for what, segments in (("annotated", index.segments(image)), ("found", mistaken.predicted))
    )
    name = html.escape(index.name(image))
    return (
        f'<figure class="worst"><div class="pair">{"".join(drawn)}</div>'
        f"<figcaption><b>{name}</b>: {html.escape(told + trouble)}</figcaption></figure>"
    )


def _drawn(pixels: np.ndarray, segments: Segments) -> str:
    """Draw segments on a picture of one size for all, so that names are as legible in each."""
    height, width = pixels.shape[:2]
    factor = _LONG_SIDE_PX / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    ids = Image.fromarray(segments.ids.numpy()).resize(size, Image.Resampling.NEAREST)
    larger = Segments(
        torch.from_numpy(np.array(ids)), segments.classes, segments.scores, segments.categories
    )
    drawn = np.array(draw_segments(picture, larger))
    return jpeg_uri(torch.from_numpy(drawn).permute(2, 0, 1), _LONG_SIDE_PX)
