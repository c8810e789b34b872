"""README.md of a shared model: readable for the hub and for people, whatever classes are called."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.sharing.facts import DataCounts, Metrics
from setmatch.sharing.model_card import SharedModel, model_page
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

HOSTILE = [
    "a|b",
    "<script>alert(1)</script>",
    "[x](http://y)",
    "a\n## b",
    "`c`",
    "---",
    "\u2028\x1b",
]


def page_of(*names: str | None, **changes: object) -> str:
    categories = Categories(tuple(range(len(names))), names)
    known = [name for name in names if name]
    measured = {name: {"AP": 0.5, "AP50": 0.6, "boxes": 5} for name in known}
    values = {
        "name": "anna/model",
        "card": ModelCard("setmatch_n", {}, categories, source="trained by setmatch on photos"),
        "parameters": 1_240_000,
        "has_masks": False,
        "carried_license": "unknown",
        "metrics": Metrics.model_validate({"AP": 0.5, "per_class": measured}),
        "data": DataCounts(10, dict.fromkeys(known, 3), 5),
    }
    return model_page(SharedModel(**{**values, **changes}))


def columns(line: str) -> int:
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))


@settings(max_examples=30)
@given(st.lists(st.text(max_size=30) | st.sampled_from(HOSTILE), min_size=1, max_size=4))
def test_any_class_name_stays_text(names: list[str]):
    """It cannot break a table, start a heading, run a script, or end the metadata."""
    page = page_of(*names)
    head, _, text = page.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head)["library_name"] == "setmatch"
    assert text.count("\n## ") == page_of("plain").count("\n## ")
    assert not re.search(r"(?<!\\)<", text)
    table = text.partition("## Classes\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) == 2 + len(names)
    assert {columns(line) for line in table} == {columns(table[1])}


def test_a_thousand_classes_are_not_all_listed():
    page = page_of(*(f"class {number}" for number in range(1000)))
    assert "And 800 more, which `model.json` names" in page
    assert len(page) < 20_000


def test_a_model_with_masks_has_another_task():
    page = page_of("cat", has_masks=True)
    assert "pipeline_tag: image-segmentation" in page
    assert "with their masks" in page


@pytest.mark.parametrize(
    ("preprocessing", "says"),
    [
        (Preprocessing(480, 640), "short side has 480 px"),
        (Preprocessing(size_px=(320, 640)), "resized to 320 × 640 px"),
    ],
)
def test_the_preprocessing_is_that_of_the_card(preprocessing: Preprocessing, says: str):
    card = ModelCard("setmatch_n", {}, Categories((0,), ("cat",)), preprocessing)
    assert says in page_of("cat", card=card)


def test_a_model_of_ones_own_names_the_code_to_import():
    card = ModelCard("my_models.fast:detector", {}, Categories((0,), ("cat",)))
    assert "import my_models.fast" in page_of("cat", card=card)


def test_nothing_is_invented():
    """Without metrics and data there are neither numbers nor columns for them."""
    card = ModelCard("setmatch_n", {}, Categories((0,), ("cat",)))
    page = page_of("cat", card=card, metrics=None, data=None)
    assert "Not measured" in page
    assert "model-index" not in page
    assert "| class |\n| --- |\n| cat |" in page
    assert "None is stated" in page


def test_classes_of_a_panoptic_model_are_measured_by_pq():
    """Stuff has no boxes to find, so that its AP says nothing."""
    quality = {"PQ": 0.25, "tp": 30, "fn": 10}
    panoptic = {"all": {"PQ": 0.25}, "per_class": {"sky": quality}}
    boxes = {"sky": {"AP": 0.0, "AP50": 0.0, "boxes": 40}}
    tree = {"AP": 0.1, "panoptic": panoptic, "per_class": boxes}
    page = page_of("sky", has_masks=True, data=None, metrics=Metrics.model_validate(tree))
    assert "| class | PQ | objects to find |" in page
    assert "| sky | 25.0 | 40 |" in page
    assert "finds worst: sky (PQ 25.0)" in page
