"""The page of a report: complete, without errors in a browser, and with the right numbers."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import OpenPage
from sample_datasets import index_of, results_of
from setmatch.data.dataset import DetectionDataset
from setmatch.data.ragged import pack
from setmatch.evaluation.metrics.coco import Results
from setmatch.evaluation.metrics.error_types import KINDS
from setmatch.evaluation.metrics.per_layer import PerLayerDetections, survives_nms
from setmatch.evaluation.outputs import Outputs
from setmatch.evaluation.report import worst_images
from setmatch.evaluation.report.worst_images import STYLES
from setmatch.evaluation.results import Report
from setmatch.evaluation.split_detections import SplitDetections
from setmatch.evaluation.summarize import build_report

CLASS_WITH_MARKUP = "<script>alert(1)</script> & co"


def dataset_with_errors(
    folder: Path, images: int = 9, classes: int = 3
) -> tuple[DetectionDataset, Results]:
    """Images with an object of each class; in every third image all predicted classes are wrong."""
    rows = [(image, class_index) for image in range(images) for class_index in range(classes)]
    image, class_indices = np.array(rows).T
    boxes = [[30 + 130 * class_index, 40 + 10 * image, 100, 80] for image, class_index in rows]
    index = index_of(range(1, images + 1), range(1, classes + 1), image, class_indices, boxes)
    names = [f"{number}.png" for number in range(images)]
    buffer, offsets = pack(names)
    names_of = (CLASS_WITH_MARKUP, *(f"class {class_index}" for class_index in range(1, classes)))
    categories = type(index.categories)(index.categories.ids, names_of)
    vars(index).update(images=folder, names=buffer, name_offsets=offsets, categories=categories)
    for number, name in enumerate(names):
        Image.new("RGB", (500, 500), (25 * number, 90, 120)).save(folder / name)
    predicted = np.where(image % 3 == 0, (class_indices + 1) % classes, class_indices)
    scores = np.linspace(0.95, 0.3, len(rows))
    return index, results_of(index.image_ids[image], predicted, boxes, scores)


def write_report(
    folder: Path, index: DetectionDataset, *layers: Results, **others: Any
) -> tuple[Path, Report]:
    page = folder / "report.html"
    survivors = tuple(map(survives_nms, layers)) if len(layers) > 1 else ()
    per_layer = PerLayerDetections(layers, survivors) if survivors else PerLayerDetections(layers)
    detections = SplitDetections(
        **{"name": CLASS_WITH_MARKUP, "per_layer": per_layer, "max_per_image": 100} | others
    )
    return page, build_report(index, detections, 100, Outputs(report=page))


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_fits_the_screen_without_errors(
    open_page: OpenPage, tmp_path: Path, width: int, height: int
):
    index, results = dataset_with_errors(tmp_path)
    path, report = write_report(tmp_path, index, results, results)
    page = open_page(path, width=width, height=height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.inner_text("h1") == CLASS_WITH_MARKUP
    assert f"{100 * report.AP:.1f}" in page.inner_text(".numbers")
    headings = page.locator("h2").all_inner_texts()
    assert {"Classes", "Error analysis", "Confusion matrix", "Decoder layers"} <= {*headings}
    numbers = json.loads(page.locator("#numbers").text_content())
    assert numbers == json.loads(json.dumps(report.to_json()))
    # Both panels share one copy of each image.
    assert page.locator(".pair svg").count() == 2 * len(report.diagnosis.worst) == 6
    assert page.locator(".pair image").count() == page.locator(".pair use").count() == 3
    sides = page.locator(".pair svg").first.bounding_box()
    beside = page.locator(".pair svg").nth(1).bounding_box()
    assert (beside["y"] == sides["y"]) == (width > 700)


def test_errors_are_drawn_in_pixels_of_the_image(tmp_path: Path):
    """The color, the pattern and the tooltip of a box give its kind of error."""
    index, results = dataset_with_errors(tmp_path)
    path, report = write_report(tmp_path, index, results)
    text = path.read_text("utf-8")
    box = index.xywh_px[index.offsets[report.diagnosis.worst[0].image] + 1]
    drawn = re.escape(f'<rect x="{box[0]:g}" y="{box[1]:g}" width="100" height="80" stroke=')
    dash = r' stroke-dasharray="[\d ]+"'
    assert re.search(rf'{drawn}"#ff5252"{dash}><title>class 1: missed</title>', text)
    assert re.search(rf'{drawn}"#c77dff"{dash}><title>class 2 0.\d\d: classification<', text)
    assert "Decoder layers" not in text


def test_names_do_not_become_markup(tmp_path: Path):
    """The only scripts are the JSON of the numbers and our own, and nothing is fetched."""
    index, results = dataset_with_errors(tmp_path)
    text = write_report(tmp_path, index, results)[0].read_text("utf-8")
    scripts = ['<script type="application/json" id="numbers">', "<script>"]
    assert re.findall(r"<script[^>]*>", text) == scripts
    assert not re.search(r"url\((?!data)|@import|\son\w+=|https?://(?!www\.w3)", text)


def test_kinds_of_error_differ_by_pattern_and_sign_too():
    """Red and green look alike to some."""
    patterns = [style.dash for style in STYLES.values()]
    signs = [style.sign for style in STYLES.values()]
    assert len({*patterns}) == len({*signs}) == len(STYLES) == len(KINDS) + 1
    assert STYLES.keys() == {"found", *KINDS}


def test_images_are_filtered_by_kind_of_error_and_class_and_sorted(
    open_page: OpenPage, tmp_path: Path
):
    index, results = dataset_with_errors(tmp_path, images=45)
    keep = np.ones(len(results), bool)
    keep[:9] = False  # the objects of the first three images are missed
    path, report = write_report(tmp_path, index, results.select(keep))
    worst = [each.name for each in report.diagnosis.worst]
    assert {*worst} == {f"{number}.png" for number in (0, 1, 2, *range(3, 45, 3))}
    page = open_page(path)

    def shown() -> list[str]:
        figures = page.locator("#gallery .worst:not([hidden]) figcaption b")
        return figures.all_text_contents()  # those far below have no inner text yet

    assert shown() == worst
    page.select_option("#sort", "name")
    assert shown() == sorted(worst, key=lambda name: int(name.removesuffix(".png")))
    page.select_option("#kind", "classification")
    assert shown() == [f"{number}.png" for number in range(3, 45, 3)]
    page.select_option("#kind", "missed")
    page.select_option("#class", CLASS_WITH_MARKUP)
    page.select_option("#sort", "count")
    assert {*shown()} == {*worst}
    assert page.inner_text("#matches") == "17 of 17 images, 17 errors"
    page.select_option("#kind", "classification")
    page.select_option("#class", "class 1")
    assert page.inner_text("#matches") == "14 of 17 images, 14 errors"


def test_figures_beyond_the_first_are_thumbnails_that_can_be_enlarged(
    open_page: OpenPage, tmp_path: Path
):
    index, results = dataset_with_errors(tmp_path, images=60)
    path, report = write_report(tmp_path, index, results)
    page = open_page(path)
    assert page.locator("#gallery .worst").count() == len(report.diagnosis.worst) == 20
    last = page.locator("#gallery .worst").nth(19)
    last.scroll_into_view_if_needed()
    small = last.bounding_box()["width"]
    assert last.locator("text").first.is_hidden()
    last.locator(".resize").click()
    assert last.bounding_box()["width"] > 1.8 * small
    assert last.locator("text").first.is_visible()
    last.locator(".resize").click()
    assert last.bounding_box()["width"] == small


def test_the_page_of_a_large_data_set_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Figures end where they would take more than their share; the worst ones are there."""
    index, results = dataset_with_errors(tmp_path, images=45)
    path, report = write_report(tmp_path, index, results)
    whole = path.read_text("utf-8").count('<figure class="worst')
    monkeypatch.setattr(worst_images, "_MAX_CHARACTERS", 20_000)
    path, _ = write_report(tmp_path, index, results)
    text = path.read_text("utf-8")
    names = re.findall(r'<figure class="worst[^"]*" data-name="(.*?)"', text)
    assert 0 < len(names) < whole == 15
    assert names == [each.name for each in report.diagnosis.worst[: len(names)]]


def test_a_model_without_detections_gets_a_page_that_says_so(tmp_path: Path):
    index, results = dataset_with_errors(tmp_path)
    none = results.select(np.zeros(len(results), bool))
    path, report = write_report(tmp_path, index, none, none)
    assert "detected nothing at all" in path.read_text("utf-8")
    assert report.diagnosis.errors["missed"].count == 27


def test_classes_without_a_right_detection_have_no_threshold(tmp_path: Path):
    index, results = dataset_with_errors(tmp_path)
    shifted = Results(
        results.image_ids, results.class_indices, results.xywh_px + 2000, results.scores
    )
    path, report = write_report(tmp_path, index, shifted)
    assert {each.threshold for each in report.diagnosis.classes} == {None}
    assert "No detection is right" in path.read_text("utf-8")


def test_one_class_is_enough(tmp_path: Path):
    index, results = dataset_with_errors(tmp_path, classes=1)
    _, report = write_report(tmp_path, index, results)
    assert report.diagnosis.confusion == ((9, 0), (0, 0))
    assert report.diagnosis.worst == ()


def test_classes_the_model_lacks_are_named(tmp_path: Path):
    index, results = dataset_with_errors(tmp_path)
    text = write_report(tmp_path, index, results, unknown=("class 2",))[0].read_text("utf-8")
    assert "does not know 'class 2': all 9 objects of this class count as missed" in unescape(text)


def test_many_classes_stay_readable(tmp_path: Path):
    """Eighty classes: a matrix of the most confused ones, and most curves folded."""
    index, results = dataset_with_errors(tmp_path, images=3, classes=80)
    text = write_report(tmp_path, index, results)[0].read_text("utf-8")
    assert "the 16 of 80 classes that are confused most" in text
    assert "68 more classes" in text
    assert len(text) < 2_000_000


def test_a_missing_image_does_not_prevent_the_report(tmp_path: Path):
    """Saved detections can be evaluated without images: their boxes are drawn on nothing."""
    index, results = dataset_with_errors(tmp_path)
    for image in tmp_path.glob("*.png"):
        image.unlink()
    text = write_report(tmp_path, index, results)[0].read_text("utf-8")
    assert "image not shown" in text
    assert "<image" not in text
    assert "<use" not in text
