"""Write the page that a demo ends with: scores, training curve, predictions and ground truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.data.dataset import DetectionDataset
from setmatch.demo.browser import BY_HAND, FOLDER
from setmatch.evaluation.results import Report
from setmatch.html.page import write
from setmatch.html.tables import Bar, Row, Table, percent
from setmatch.inference.pipeline import ImageResult
from setmatch.ops.colors import css_color_of
from setmatch.training.logging.curves.history import read_history
from setmatch.training.logging.curves.panels import panels
from setmatch.training.logging.curves.svg import chart


@dataclass(frozen=True)
class Outcome:
    """The settings and results of a demo."""

    preset: str
    parameters: int
    scenes: int
    minutes: float
    seconds: float
    threshold: float
    run: Path
    index: DetectionDataset  # of the validation split
    report: Report
    predictions: Sequence[ImageResult]  # in the first images of the split
    more_time: str | None = None  # what more time would give, if the scores are below the goal
    in_browser: bool = False  # True if there is a page that runs the model in a browser


@dataclass(frozen=True)
class _Figure:
    """The files of an image with predictions and with ground truth, and how many objects each."""

    predicted_file: str
    ground_truth_file: str
    predicted: int
    annotated: int


def write_page(outcome: Outcome, path: Path) -> None:
    """Write the page; it shows the files NN_prediction.png and NN_ground_truth.png of images/."""
    report, dataset = outcome.report, outcome.index
    first_image = dataset.path(0).resolve().relative_to(path.resolve().parent).as_posix()
    write(
        path,
        "demo/demo.html",
        outcome=outcome,
        panoptic=report.panoptic is not None,
        too_little=report.panoptic is None and report.AP < 0.1,
        numbers=_numbers(outcome),
        curve=chart(panels([read_history(outcome.run, "AP")])[0]),
        classes=_class_table(report, len(dataset)),
        figures=[_figure(dataset, image, each) for image, each in enumerate(outcome.predictions)],
        first_image=first_image,
        browser=FOLDER,
        by_hand=BY_HAND,
    )


def _numbers(outcome: Outcome) -> Mapping[str, str]:
    report = outcome.report
    scores = {"AP": percent(report.AP), "AP50 (IoU at least 0.5)": percent(report.AP50)}
    if report.panoptic is not None:
        scores = {"PQ": percent(report.panoptic.all.PQ), "box AP": scores["AP"]}
    return {**scores, "seconds in total": f"{outcome.seconds:.0f}"}


def _class_table(report: Report, images: int) -> Table:
    rows = [
        Row((name, percent(value), Bar(value, css_color_of(number))))
        for number, (name, value) in enumerate(_scores(report).items())
    ]
    measure = "AP" if report.panoptic is None else "PQ"
    return Table((f"{images} validation images", measure, ""), rows)


def _scores(report: Report) -> dict[str, float]:
    """Return PQ or AP of all classes and of each, by name."""
    quality = report.panoptic
    if quality is None:
        per_class = {name: precision.AP for name, precision in report.per_class.items()}
        return {"all classes": report.AP} | per_class
    groups = {"all classes": quality.all, "things": quality.things, "stuff": quality.stuff}
    per_class = {name: of_class.PQ for name, of_class in quality.per_class.items()}
    return {name: group.PQ for name, group in groups.items()} | per_class


def _figure(dataset: DetectionDataset, image: int, result: ImageResult) -> _Figure:
    predicted = result if result.segments is None else result.segments
    annotated = dataset.target(image) if result.segments is None else dataset.segments(image)
    return _Figure(
        f"images/{image:02d}_prediction.png",
        f"images/{image:02d}_ground_truth.png",
        len(predicted),
        len(annotated),
    )
