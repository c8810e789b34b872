"""A survey as one page of HTML that needs nothing beside it: pictures and charts are inside."""

import html
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from setmatch.data.audit.audit import DataAudit
from setmatch.data.audit.console import format_duration, statistics_rows
from setmatch.data.audit.findings import SEVERITIES, FindingGroup, group_findings
from setmatch.data.audit.recommend import TrainingPlan
from setmatch.data.audit.statistics import Histogram, objects_of
from setmatch.data.dataset import DetectionDataset
from setmatch.data.image_io import read_image
from setmatch.html.charts import bars, color_of
from setmatch.html.images import boxes, jpeg_uri
from setmatch.html.page import write_sheet

_TEMPLATE = Path(__file__).with_name("page.html")
_PICTURES = {"train": 12}  # of other splits half as many
_LISTED = 100  # findings of a kind; the JSON has all
_TWINS = 12


def write_page(audit: DataAudit, path: Path) -> None:
    """Write the survey as one self-contained HTML page."""
    statistics = audit.statistics[-1] if audit.statistics else None
    names = list(statistics.objects_per_class) if statistics else []
    colors = {name: color_of(number) for number, name in enumerate(names)}
    chosen = list(_chosen(audit))
    drawn = {name for _, index, image, _ in chosen for name in _names(index, image)}
    parts = {
        "name": html.escape(audit.data.resolve().name),
        "verdict": _verdict(audit),
        "numbers": _numbers(audit),
        "findings": "\n".join(map(_group, group_findings(audit.findings)))
        or '<p class="good">Nothing that a survey can see.</p>',
        "splits": _splits(audit),
        "charts": "\n".join(_charts(audit)),
        "classes": _classes(audit, colors),
        "legend": "".join(
            f'<span><i style="background:{color}"></i>{html.escape(name)}</span>'
            for name, color in colors.items()
            if name in drawn
        ),
        "twins": "\n".join(_twins(audit)),
        "pictures": "\n".join(_picture(*each, colors) for each in chosen),
        "plan": _plan(audit, audit.plan) if audit.plan is not None else "",
        "seconds": f"{audit.seconds:.1f}",
    }
    write_sheet(_TEMPLATE, parts, path)


def _verdict(audit: DataAudit) -> str:
    if audit.error_count:
        return f'<b class="error">{audit.verdict}.</b>'
    return '<b class="good">Nothing must be mended by hand.</b>'


def _numbers(audit: DataAudit) -> str:
    if not audit.statistics:
        return ""
    statistics = audit.statistics[-1]
    numbers = {
        "images": statistics.images,
        "objects to learn": statistics.objects,
        "classes": len(statistics.objects_per_class),
        "objects in the fullest image": round(statistics.objects_per_image.max),
    }
    return "".join(f"<div><b>{number:,}</b>{name}</div>" for name, number in numbers.items())


def _group(group: FindingGroup) -> str:
    first, count = group.first, len(group.findings)
    lines = [finding.details for finding in group.findings[:_LISTED]]
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines if line)
    if count > _LISTED:
        listed += f"<li>… {count - _LISTED:,} more, all of them in the JSON</li>"
    done = f": {html.escape(first.action)}" if first.action else ""
    opened = " open" if first.severity == "error" or count <= 3 else ""
    return (
        f'<details class="{first.severity}"{opened}><summary>{count:,} × '
        f"<b>{html.escape(first.kind)}</b>{done} "
        f'<span class="{first.severity}">({SEVERITIES[first.severity]})</span></summary>'
        f"<ul>{listed}</ul></details>"
    )


def _splits(audit: DataAudit) -> str:
    head = "".join(f"<th>{html.escape(statistics.name)}</th>" for statistics in audit.statistics)
    rows = (
        f"<tr><td>{html.escape(label)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for label, cells in statistics_rows(audit.statistics)
    )
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _charts(audit: DataAudit) -> Iterator[str]:
    if not audit.statistics:
        return
    statistics = audit.statistics[-1]
    yield _bars(
        statistics.objects_per_image_histogram, "objects in an image", "images", "{:g}".format
    )
    original, seen = statistics.original_sizes.histogram, statistics.resized_sizes.histogram
    yield _bars(original, "size of an object: √area, px", "objects", _rounded)
    yield _bars(seen, "the same as the model sees it, px", "objects", _rounded)
    yield _bars(
        statistics.aspect_ratio_histogram, "width / height of an image", "images", "{:.2g}".format
    )


def _bars(histogram: Histogram, caption: str, thing: str, edge: Callable[[float], str]) -> str:
    return bars(histogram.counts, histogram.edges, caption, thing, edge)


def _rounded(edge: float) -> str:
    return f"{edge:.0f}"


def _classes(audit: DataAudit, colors: Mapping[str, str]) -> str:
    if not audit.statistics:
        return ""
    counts = sorted(audit.statistics[-1].objects_per_class.items(), key=lambda item: -item[1])
    most = max((count for _, count in counts), default=0) or 1
    head = "".join(f"<th>{html.escape(statistics.name)}</th>" for statistics in audit.statistics)
    rows, boxless = [], []
    for name, count in counts:
        if not count:
            boxless.append(name)
            continue
        cells = "".join(
            f"<td>{statistics.objects_per_class.get(name, 0):,}</td>"
            for statistics in audit.statistics
        )
        bar = f'<i style="width:{100 * count / most:.1f}%;background:{colors[name]}"></i>'
        rows.append(f'<tr><td>{html.escape(name)}</td><td class="bar">{bar}</td>{cells}</tr>')
    table = f"<table><tr><th></th><th></th>{head}</tr>{''.join(rows)}</table>"
    if not boxless:
        return table
    listed = html.escape(", ".join(boxless))
    return f'{table}<p class="soft">{len(boxless):,} without a box: {listed}</p>'


def _chosen(audit: DataAudit) -> Iterator[tuple[str, DetectionDataset, int, str]]:
    """Yield the pictures to show: split, index, number, and why where there is a reason."""
    for split, index in audit.splits.items():
        readable = [picture.image for picture in audit.image_checks[split] if picture.hash]
        for image, why in _telling(index, readable, _PICTURES.get(split, 6)).items():
            yield split, index, image, why


def _names(index: DetectionDataset, image: int) -> list[str]:
    return [
        index.categories.name(class_index) for class_index in index.target(image).classes.tolist()
    ]


def _twins(audit: DataAudit) -> Iterator[str]:
    if not audit.near_duplicates:
        return
    yield "<h2>Alike in different splits</h2><div class='twins'>"
    for near_duplicates in audit.near_duplicates[:_TWINS]:
        sides = (
            (near_duplicates.other_split, near_duplicates.other),
            (near_duplicates.split, near_duplicates.image),
        )
        for split, image in sides:
            index = audit.splits[split]
            name = html.escape(f"{split}/{index.name(image)}")
            yield (
                f'<figure><div class="frame"><img alt="" src="{_embedded(index, image)}"></div>'
                f"<figcaption>{name}</figcaption></figure>"
            )
    yield "</div>"


def _telling(index: DetectionDataset, readable: list[int], most: int) -> dict[int, str]:
    """Choose pictures that tell something, each with the reason, then some evenly spaced ones."""
    if not readable:
        return {}
    objects = objects_of(index)
    per_image = np.bincount(objects.image, minlength=len(index))
    side_px = np.full(len(index), np.inf)
    np.minimum.at(side_px, objects.image, np.sqrt(objects.area_px))
    candidates = np.array(readable)
    chosen = {int(candidates[per_image[candidates].argmax()]): "most objects"}
    if np.isfinite(side_px[candidates]).any():
        chosen.setdefault(int(candidates[side_px[candidates].argmin()]), "smallest object")
    empty = candidates[per_image[candidates] == 0]
    if len(empty):
        chosen.setdefault(int(empty[0]), "no object")
    spaced = np.linspace(0, len(candidates) - 1, num=most).round().astype(int)
    for image in candidates[spaced].tolist():
        if len(chosen) < most:
            chosen.setdefault(image, "")
    return chosen


def _picture(
    split: str, index: DetectionDataset, image: int, why: str, colors: Mapping[str, str]
) -> str:
    target = index.target(image)
    height, width = index.size_px(image)
    center, extent = target.cxcywh[:, :2], target.cxcywh[:, 2:]
    xywh = np.concatenate([(center - extent / 2).numpy(), extent.numpy()], axis=1)
    names = _names(index, image)
    drawn = boxes(
        (xywh * [width, height, width, height]).round(2).tolist(),
        names,
        [colors[name] for name in names],
        (height, width),
    )
    count = f"{len(names)} object{'' if len(names) == 1 else 's'}"
    caption = f"{split}/{index.name(image)}: {count}" + (f" ({why})" if why else "")
    return (
        f'<figure><div class="frame"><img alt="" src="{_embedded(index, image)}">'
        f"{drawn}</div><figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _embedded(index: DetectionDataset, image: int) -> str:
    return jpeg_uri(read_image(index.path(image), index.size_px(image)))


def _plan(audit: DataAudit, plan: TrainingPlan) -> str:
    reasons = "".join(
        f"<li>{html.escape(reason)}</li>"
        for reason in (*plan.reasons, f"time: {format_duration(plan)}")
    )
    return (
        f"<h2>A plan to train on it</h2><ul>{reasons}</ul>"
        f"<pre>{html.escape(plan.to_yaml())}</pre>"
        f"<pre>{html.escape(chr(10).join(audit.commands))}</pre>"
    )
