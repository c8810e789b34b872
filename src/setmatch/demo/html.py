"""The page that a demonstration ends with: numbers, how they came, answers beside the truth."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.results import Report
from setmatch.html.charts import color_of
from setmatch.html.page import write_sheet
from setmatch.inference.pipeline import ImageResult
from setmatch.training.logging.curves.history import read_history
from setmatch.training.logging.curves.panels import panels
from setmatch.training.logging.curves.svg import chart

_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Outcome:
    """What a demonstration has come to, and how."""

    preset: str
    parameters: int
    scenes: int
    minutes: float
    seconds: float
    threshold: float
    run: Path
    index: DetectionDataset  # of the validation pictures
    report: Report
    found: Sequence[ImageResult]  # in the first of them


def write_page(outcome: Outcome, path: Path) -> None:
    """Write the page; it shows pictures/NN_found.png and pictures/NN_truth.png beside it."""
    report, index = outcome.report, outcome.index
    panoptic = report.panoptic is not None
    parts = {
        "task": "Panoptic segmentation" if panoptic else "Detection",
        "minutes": f"{outcome.minutes:g}",
        "preset": html.escape(outcome.preset),
        "parameters": f"{outcome.parameters / 1e6:.1f} million",
        "scenes": f"{outcome.scenes:,}",
        "verdict": _verdict(report),
        "head": "\n".join(
            f"<div><b>{value}</b>{html.escape(name)}</div>"
            for name, value in _head(outcome).items()
        ),
        "curve": chart(panels([read_history(outcome.run, "AP")])[0]),
        "dashed": "" if panoptic else "Dashed: AP50, where half an overlap is enough.",
        "unseen": f"{len(index)}",
        "measure": "PQ" if panoptic else "AP",
        "numbers": "\n".join(_rows(_by_class(report))),
        "answers": "the model's segments"
        if panoptic
        else f"what scores over {outcome.threshold:g}",
        "figures": "\n".join(_figures(index, outcome.found)),
        "format": "COCO's panoptic format" if panoptic else "ordinary COCO JSON",
        "picture": html.escape(
            index.path(0).resolve().relative_to(path.resolve().parent).as_posix()
        ),
    }
    write_sheet(_TEMPLATE, parts, path)


def _head(outcome: Outcome) -> Mapping[str, str]:
    report = outcome.report
    boxes = {"AP": f"{100 * report.AP:.1f}", "AP50, half an overlap": f"{100 * report.AP50:.1f}"}
    if report.panoptic is not None:
        boxes = {"PQ": f"{100 * report.panoptic.all.PQ:.1f}", "AP of the boxes": boxes["AP"]}
    return {**boxes, "seconds since it was called": f"{outcome.seconds:.0f}"}


def _verdict(report: Report) -> str:
    if report.panoptic is not None:
        return "Panoptic quality says how many segments are right, and how well they fit."
    if report.AP < 0.1:
        return (
            "That is far too little for a transformer without pretrained weights: the numbers are "
            "near zero, and the boxes show it. The journey is what this page shows, not the model."
        )
    return "The scores below are averages over overlaps from 50 to 95 percent."


def _by_class(report: Report) -> dict[str, float]:
    quality = report.panoptic
    if quality is None:
        return {"all classes": report.AP} | {
            name: of_class.AP for name, of_class in report.per_class.items()
        }
    groups = {"all classes": quality.all, "things": quality.things, "stuff": quality.stuff}
    return {name: group.PQ for name, group in groups.items()} | {
        name: of_class.PQ for name, of_class in quality.per_class.items()
    }


def _rows(values: Mapping[str, float]) -> Iterator[str]:
    for number, (name, value) in enumerate(values.items()):
        yield (
            f"<tr><td>{html.escape(name)}</td><td>{100 * value:.1f}</td>"
            f'<td class="bar"><i style="width:{100 * max(value, 0):.0f}%;'
            f'background:{color_of(number)}"></i></td></tr>'
        )


def _figures(index: DetectionDataset, found: Sequence[ImageResult]) -> Iterator[str]:
    for image, detections in enumerate(found):
        there = len(index.target(image))
        answers = len(detections if detections.segments is None else detections.segments)
        yield (
            f'<figure><div class="pair"><img src="pictures/{image:02d}_found.png" alt="found">'
            f'<img src="pictures/{image:02d}_truth.png" alt="truth"></div>'
            f"<figcaption>{answers} found, {there} there</figcaption></figure>"
        )
