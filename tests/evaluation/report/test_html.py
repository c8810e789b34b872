"""The report's page as a user opens it: complete, quiet, and true to its numbers."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import OpenPage
from sample_datasets import index_of, results_of
from setmatch.data.dataset import DetectionDataset
from setmatch.data.ragged import pack
from setmatch.evaluation.metrics.average_precision import Results
from setmatch.evaluation.metrics.per_layer import PerLayerDetections, survives_nms
from setmatch.evaluation.outputs import Outputs
from setmatch.evaluation.results import Report
from setmatch.evaluation.split_detections import SplitDetections
from setmatch.evaluation.summarize import build_report

NAUGHTY = "<script>alert(1)</script> & co"


def pictured(folder: Path, images: int = 9, classes: int = 3) -> tuple[DetectionDataset, Results]:
    """Pictures with an object of each class; of every third image one is answered wrongly."""
    rows = [(image, class_index) for image in range(images) for class_index in range(classes)]
    image, class_indices = np.array(rows).T
    boxes = [[30 + 130 * class_index, 40 + 10 * image, 100, 80] for image, class_index in rows]
    index = index_of(range(1, images + 1), range(1, classes + 1), image, class_indices, boxes)
    names = [f"{number}.png" for number in range(images)]
    buffer, offsets = pack(names)
    names_of = (NAUGHTY, *(f"class {class_index}" for class_index in range(1, classes)))
    categories = type(index.categories)(index.categories.ids, names_of)
    vars(index).update(images=folder, names=buffer, name_offsets=offsets, categories=categories)
    for number, name in enumerate(names):
        Image.new("RGB", (500, 500), (25 * number, 90, 120)).save(folder / name)
    answered = np.where(image % 3 == 0, (class_indices + 1) % classes, class_indices)
    scores = np.linspace(0.95, 0.3, len(rows))
    return index, results_of(index.image_ids[image], answered, boxes, scores)


def written(
    folder: Path, index: DetectionDataset, *layers: Results, **others: Any
) -> tuple[Path, Report]:
    page = folder / "report.html"
    survivors = tuple(map(survives_nms, layers)) if len(layers) > 1 else ()
    answers = PerLayerDetections(layers, survivors) if survivors else PerLayerDetections(layers)
    found = SplitDetections(
        **{"name": NAUGHTY, "per_layer": answers, "max_per_image": 100} | others
    )
    return page, build_report(index, found, 100, Outputs(report=page))


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_opens_quietly_and_fits(
    open_page: OpenPage, tmp_path: Path, width: int, height: int
):
    """At desktop and phone width: no error, no request, nothing wider than the screen."""
    index, results = pictured(tmp_path)
    path, report = written(tmp_path, index, results, results)
    page = open_page(path, width=width, height=height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.inner_text("h1") == NAUGHTY
    assert f"{100 * report.AP:.1f}" in page.inner_text(".numbers")
    headings = page.locator("h2").all_inner_texts()
    assert {"Classes", "Kinds of error", "Confusion", "Decoder layers"} <= {*headings}
    told = json.loads(page.locator("#numbers").text_content())
    assert told == json.loads(json.dumps(report.to_json()))
    # Truth and answer share the one copy of each picture, and the right panel does show it.
    assert page.locator(".pair svg").count() == 2 * len(report.diagnosis.worst) == 6
    assert page.locator(".pair image").count() == page.locator(".pair use").count() == 3
    sides = page.locator(".pair svg").first.bounding_box()
    beside = page.locator(".pair svg").nth(1).bounding_box()
    assert (beside["y"] == sides["y"]) == (width > 700)


def test_mistakes_are_drawn_where_they_are(tmp_path: Path):
    """Boxes lie in the pixels of their image, and have and tell their kind."""
    index, results = pictured(tmp_path)
    path, report = written(tmp_path, index, results)
    text = path.read_text("utf-8")
    box = index.xywh_px[index.offsets[report.diagnosis.worst[0].image] + 1]
    drawn = f'<rect x="{box[0]:g}" y="{box[1]:g}" width="100" height="80" stroke='
    assert f'{drawn}"#ff5252"><title>class 1: missed</title>' in text
    assert re.search(rf'{re.escape(drawn)}"#c77dff"><title>class 2 0.\d\d: classification<', text)
    assert "Decoder layers" not in text


def test_nothing_users_wrote_becomes_markup(tmp_path: Path):
    """Names of classes, files and models are text; there is no script but the numbers."""
    index, results = pictured(tmp_path)
    text = written(tmp_path, index, results)[0].read_text("utf-8")
    assert re.findall(r"<script[^>]*>", text) == ['<script type="application/json" id="numbers">']
    assert not re.search(r"url\((?!data)|@import|\son\w+=|https?://(?!www\.w3)", text)


def test_a_model_that_finds_nothing_gets_a_page_that_says_so(tmp_path: Path):
    """No detection at all is an answer too."""
    index, results = pictured(tmp_path)
    none = results.select(np.zeros(len(results), bool))
    path, report = written(tmp_path, index, none, none)
    assert "found nothing at all" in path.read_text("utf-8")
    assert report.diagnosis.errors["missed"].count == 27


def test_detections_that_are_all_wrong_have_no_threshold(tmp_path: Path):
    """Nothing right: no threshold, no crash, and the page says what that means."""
    index, results = pictured(tmp_path)
    moved = Results(
        results.image_ids, results.class_indices, results.xywh_px + 2000, results.scores
    )
    path, report = written(tmp_path, index, moved)
    assert {each.threshold for each in report.diagnosis.classes} == {None}
    assert "No detection is right" in path.read_text("utf-8")


def test_one_class_is_enough(tmp_path: Path):
    """A page about one class has all its parts."""
    index, results = pictured(tmp_path, classes=1)
    _, report = written(tmp_path, index, results)
    assert report.diagnosis.confusion == ((9, 0), (0, 0))
    assert report.diagnosis.worst == ()


def test_classes_the_model_lacks_are_named(tmp_path: Path):
    """All their objects are missed, and the page says why."""
    index, results = pictured(tmp_path)
    text = written(tmp_path, index, results, unknown=("class 2",))[0].read_text("utf-8")
    assert "does not know class 2: all 9 objects of this class count as missed" in text


def test_many_classes_stay_readable(tmp_path: Path):
    """Eighty classes: a small matrix of those confused most, and most curves folded away."""
    index, results = pictured(tmp_path, images=3, classes=80)
    text = written(tmp_path, index, results)[0].read_text("utf-8")
    assert "the 16 of 80 classes that are confused most" in text
    assert "68 more classes" in text
    assert len(text) < 2_000_000


def test_a_picture_that_is_gone_costs_only_itself(tmp_path: Path):
    """Saved detections may be all there is: boxes are drawn alone, and the caption says why."""
    index, results = pictured(tmp_path)
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    text = written(tmp_path, index, results)[0].read_text("utf-8")
    assert "without the picture" in text
    assert "<image" not in text
    assert "<use" not in text
