"""Write the audit of a data set as one self-contained HTML page."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from setmatch.data.audit.audit import DataAudit
from setmatch.data.audit.console import format_duration, statistics_rows
from setmatch.data.audit.findings import SEVERITIES, FindingGroup, group_findings
from setmatch.data.audit.statistics import Histogram, objects_of
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.image_io import read_image
from setmatch.html.charts import Chart, LegendEntry, histogram
from setmatch.html.images import Box, Label, jpeg_uri, labels_of, largest_first
from setmatch.html.page import write
from setmatch.html.tables import Bar, Row, Table
from setmatch.ops.colors import css_color_of

_SAMPLE_IMAGES = {"train": 12}  # of other splits half as many
_MAX_LISTED = 100  # findings of a kind; the JSON has all of them
_MAX_DUPLICATES = 12
_LEVELS = dict(zip(SEVERITIES, ("error", "warning", "note"), strict=True))  # for colors


@dataclass(frozen=True)
class _FindingGroup:
    """Findings of one kind: what is wrong, what is done about it, and where."""

    level: str
    severity: str
    count: int
    what: str
    action: str
    places: list[str]
    is_open: bool

    @property
    def unlisted(self) -> int:
        """Number of findings beyond those that the page lists."""
        return max(self.count - _MAX_LISTED, 0)


@dataclass(frozen=True)
class _Image:
    """An image of the page with its boxes, if they are drawn."""

    caption: str
    uri: str
    size_px: tuple[int, int]
    boxes: list[Box]
    labels: list[Label]

    @property
    def letter_px(self) -> float:
        """Height of the labels' letters."""
        return _letter_px(self.size_px)


@dataclass(frozen=True)
class _Sample:
    """An image of a split that was chosen for the page, and why."""

    split: str
    dataset: DetectionDataset
    image: int
    reason: str

    @property
    def class_names(self) -> list[str]:
        """Class name of each box."""
        classes = self.dataset.target(self.image).classes.tolist()
        return [self.dataset.categories.name(class_index) for class_index in classes]


def write_page(audit: DataAudit, path: Path) -> None:
    """Write the audit as one self-contained HTML page."""
    names = list(audit.statistics[-1].objects_per_class) if audit.statistics else []
    colors = {name: css_color_of(number) for number, name in enumerate(names)}
    samples = list(_samples(audit))
    sampled = {name for sample in samples for name in sample.class_names}
    write(
        path,
        "data/audit/audit.html",
        name=audit.data.resolve().name,
        to_fix=audit.verdict if audit.error_count else None,
        unreadable=audit.unreadable,
        numbers=_numbers(audit),
        findings=[_finding_group(group) for group in group_findings(audit.findings)],
        duplicates=list(_duplicates(audit)),
        splits=_split_table(audit),
        charts=list(_charts(audit)),
        classes=_class_table(audit, colors),
        classes_without_boxes=_classes_without_boxes(audit),
        legend=[LegendEntry(name, color) for name, color in colors.items() if name in sampled],
        images=[_image(sample, colors) for sample in samples],
        plan=audit.plan,
        reasons=_plan_reasons(audit),
        commands=audit.commands,
        seconds=audit.seconds,
    )


def _numbers(audit: DataAudit) -> dict[str, str]:
    if not audit.statistics:
        return {}
    statistics = audit.statistics[-1]
    return {
        "images": f"{statistics.images:,}",
        "objects": f"{statistics.objects:,}",
        "classes": f"{len(statistics.objects_per_class):,}",
        "most objects in one image": f"{statistics.objects_per_image.max:,.0f}",
    }


def _finding_group(group: FindingGroup) -> _FindingGroup:
    first, count = group.first, len(group.findings)
    places = [finding.details for finding in group.findings[:_MAX_LISTED]]
    return _FindingGroup(
        _LEVELS[first.severity],
        SEVERITIES[first.severity],
        count,
        first.kind,
        first.action,
        [each for each in places if each],
        is_open=first.severity == "error" or count <= 3,
    )


def _split_table(audit: DataAudit) -> Table:
    rows = [Row((label, *cells)) for label, cells in statistics_rows(audit.statistics)]
    return Table(("", *(statistics.name for statistics in audit.statistics)), rows)


def _charts(audit: DataAudit) -> Iterator[Chart]:
    if not audit.statistics:
        return
    statistics = audit.statistics[-1]
    original, resized = statistics.original_sizes.histogram, statistics.resized_sizes.histogram
    yield _histogram(
        statistics.objects_per_image_histogram, "objects per image", "images", "{:g}".format
    )
    yield _histogram(original, "object size √area, px", "objects", "{:.0f}".format)
    yield _histogram(resized, "object size after resizing, px", "objects", "{:.0f}".format)
    yield _histogram(
        statistics.aspect_ratio_histogram, "image width / height", "images", "{:.2g}".format
    )


def _histogram(
    values: Histogram, caption: str, counted: str, format_edge: Callable[[float], str]
) -> Chart:
    return histogram(values.counts, values.edges, caption, counted, format_edge)


def _class_table(audit: DataAudit, colors: Mapping[str, str]) -> Table:
    objects = audit.statistics[-1].objects_per_class if audit.statistics else {}
    most = max(objects.values(), default=0) or 1
    rows = [
        Row(
            (
                name,
                Bar(count / most, colors[name]),
                *(
                    f"{statistics.objects_per_class.get(name, 0):,}"
                    for statistics in audit.statistics
                ),
            )
        )
        for name, count in sorted(objects.items(), key=lambda item: -item[1])
        if count
    ]
    return Table(("", "", *(statistics.name for statistics in audit.statistics)), rows)


def _classes_without_boxes(audit: DataAudit) -> list[str]:
    objects = audit.statistics[-1].objects_per_class if audit.statistics else {}
    return [name for name, count in objects.items() if not count]


def _plan_reasons(audit: DataAudit) -> list[str]:
    if audit.plan is None:
        return []
    return [*audit.plan.reasons, f"time: {format_duration(audit.plan)}"]


def _duplicates(audit: DataAudit) -> Iterator[_Image]:
    """Yield pairs of near-duplicates, one image after the other."""
    for near_duplicate in audit.near_duplicates[:_MAX_DUPLICATES]:
        pair = (
            (near_duplicate.other_split, near_duplicate.other),
            (near_duplicate.split, near_duplicate.image),
        )
        for split, image in pair:
            dataset = audit.splits[split]
            caption = f"{split}/{dataset.name(image)}"
            yield _Image(caption, _uri(dataset, image), dataset.size_px(image), [], [])


def _samples(audit: DataAudit) -> Iterator[_Sample]:
    for split, dataset in audit.splits.items():
        readable = [each.image for each in audit.image_checks[split] if each.hash]
        chosen = _choose(dataset, readable, _SAMPLE_IMAGES.get(split, 6))
        for image, reason in chosen.items():
            yield _Sample(split, dataset, image, reason)


def _choose(dataset: DetectionDataset, readable: list[int], most: int) -> dict[int, str]:
    """Choose extreme images, each with the reason, then evenly spaced ones without a reason."""
    if not readable:
        return {}
    objects = objects_of(dataset)
    objects_per_image = np.bincount(objects.image, minlength=len(dataset))
    smallest_px = np.full(len(dataset), np.inf)
    np.minimum.at(smallest_px, objects.image, np.sqrt(objects.area_px))
    candidates = np.array(readable)
    chosen = {int(candidates[objects_per_image[candidates].argmax()]): "most objects"}
    if np.isfinite(smallest_px[candidates]).any():
        chosen.setdefault(int(candidates[smallest_px[candidates].argmin()]), "smallest object")
    empty = candidates[objects_per_image[candidates] == 0]
    if len(empty):
        chosen.setdefault(int(empty[0]), "no objects")
    spaced = np.linspace(0, len(candidates) - 1, num=most).round().astype(int)
    for image in candidates[spaced].tolist():
        if len(chosen) < most:
            chosen.setdefault(image, "")
    return chosen


def _image(sample: _Sample, colors: Mapping[str, str]) -> _Image:
    dataset, image = sample.dataset, sample.image
    names = sample.class_names
    size_px = dataset.size_px(image)
    count = f"{len(names)} object{'' if len(names) == 1 else 's'}"
    reason = f" ({sample.reason})" if sample.reason else ""
    caption = f"{sample.split}/{dataset.name(image)}: {count}{reason}"
    boxes = _boxes(sample, names, colors)
    labels = labels_of([(box, box.title) for box in boxes], size_px, _letter_px(size_px))
    return _Image(caption, _uri(dataset, image), size_px, boxes, labels)


def _boxes(sample: _Sample, names: list[str], colors: Mapping[str, str]) -> list[Box]:
    cxcywh = sample.dataset.target(sample.image).cxcywh.double().numpy()
    height, width = sample.dataset.size_px(sample.image)
    center, extent = cxcywh[:, :2], cxcywh[:, 2:]
    xywh = np.concatenate([center - extent / 2, extent], axis=1) * [width, height, width, height]
    boxes = [
        Box.from_xywh(sides, colors[name], name)
        for sides, name in zip(xywh.round(2).tolist(), names, strict=True)
    ]
    return largest_first(boxes)


def _letter_px(size_px: tuple[int, int]) -> float:
    """Return a height of letters that can be read on images in several columns."""
    return max(size_px) / 26


def _uri(dataset: DetectionDataset, image: int) -> str:
    return jpeg_uri(read_image(dataset.path(image), dataset.size_px(image)))
