"""The report as people and programs read it."""

import io
import json

from rich.console import Console

from setmatch.evaluation.metrics.average_precision import ClassPrecision
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


def test_the_table_says_everything_in_per_cent():
    """Twelve numbers, every class by name, what was measured, and what the model does not know."""
    shown = text()
    for name, value in REPORT.numbers().items():
        assert name in shown
        assert value < 0 or f"{100 * value:.1f}" in shown
    assert "54.2" in shown
    assert "7 images, 20 boxes, 700 detections" in shown
    assert "classes the model does not have: none" in shown
    assert "7 of 7 images are [upside] down" in shown


def test_the_table_shows_the_best_class_first_and_brackets_as_they_are():
    """Class names are the user's, whatever characters they hold."""
    shown = text()
    assert shown.index("platelet") < shown.index("[red]cell") < shown.index("none")


def test_nothing_to_find_is_no_number():
    """-1 is shown as a dash, never as minus one hundred per cent."""
    shown = text()
    assert "-100" not in shown
    assert "–" in shown


def test_json_holds_fractions_under_the_agreed_keys():
    """Programs find COCO's own numbers: fractions, with -1 for nothing to find."""
    tree = json.loads(json.dumps(REPORT.to_json()))
    assert list(tree) == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
        "per_class",
    ]
    assert (tree["AP"], tree["ARl"]) == (0.421, -1)
    assert tree["per_class"]["platelet"] == {"AP": 0.5421, "AP50": 0.7, "boxes": 8}
