"""The table and the JSON of a report."""

import io
import json

from rich.console import Console

from setmatch.evaluation.metrics.coco import ClassPrecision, absent_as_none
from setmatch.evaluation.results import Report

REPORT = Report(
    *(0.421, 0.6, 0.44, 0.2, 0.45, 0.61),
    *(0.33, 0.5, 0.55, 0.3, 0.6, -1.0),
    per_class={
        "[red]cell": ClassPrecision(0.3, 0.5, 12),
        "none": ClassPrecision(-1.0, -1.0, 0),
        "platelet": ClassPrecision(0.5421, 0.7, 8),
    },
    images=7,
    detections=700,
    unknown=("none",),
    notes=("7 of 7 images are [upside] down",),
)


def text() -> str:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(REPORT.table())
    return console.export_text()


def test_the_table_shows_every_metric_class_and_note_in_per_cent():
    shown = text()
    for name, value in REPORT.numbers().items():
        assert name in shown
        assert value < 0 or f"{100 * value:.1f}" in shown
    assert "54.2" in shown
    assert "7 images, 20 boxes, 700 detections" in shown
    assert "classes the model does not have: 'none'" in shown
    assert "7 of 7 images are [upside] down" in shown


def test_the_table_shows_the_best_class_first_and_keeps_brackets_in_names():
    shown = text()
    assert shown.index("platelet") < shown.index("[red]cell") < shown.index("none")


def test_minus_one_is_shown_as_a_dash():
    shown = text()
    assert "-100" not in shown
    assert "–" in shown


def test_json_holds_fractions_under_coco_keys():
    tree = json.loads(json.dumps(REPORT.to_json()))
    assert list(tree) == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
        *("per_class", "thresholds"),
    ]
    assert (tree["AP"], tree["ARl"]) == (0.421, None)
    assert tree["per_class"]["platelet"] == {"AP": 0.5421, "AP50": 0.7, "boxes": 8}


def test_only_metrics_are_absent():
    """The corner of a box may lie at -1."""
    tree = {
        "AP": -1.0,
        "per_class": {"a": {"APs": -1.0, "boxes": 0}},
        "box": [-1.0, 2.0],
        "x": -1.0,
    }
    assert absent_as_none(tree) == {
        "AP": None,
        "per_class": {"a": {"APs": None, "boxes": 0}},
        "box": [-1.0, 2.0],
        "x": -1.0,
    }
