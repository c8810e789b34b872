"""The report's section about masks, and the choice of the worst segmentations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from browser import OpenPage
from oracle_detector import SIDE, OracleDetector
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import LANDSCAPE, write_scenes
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.metrics.panoptic import PQStat
from setmatch.evaluation.metrics.worst_images import (
    MAX_SEGMENTATIONS,
    WorstSegmentation,
    with_dataset_classes,
    worst_segmentations,
)
from setmatch.structures.segments import Segments


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 1, 3, SIDE, 2, 0, panoptic=True)
    return folder


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_shows_panoptic_quality_and_the_worst_segmentations(
    open_page: OpenPage, scenes: Path, tmp_path: Path, width: int, height: int
):
    index = open_dataset(scenes, "val", "panoptic")
    model = OracleDetector(index, wrong=0.4)
    report = evaluate(model, index, workers=0, report=tmp_path / "report.html")
    page = open_page(tmp_path / "report.html", width=width, height=height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert f"{100 * report.panoptic.all.PQ:.1f}\nPQ" in page.inner_text(".numbers")
    assert f"{100 * report.masks.AP:.1f}\nmask AP" in page.inner_text(".numbers")
    headings = page.locator("h2").all_inner_texts()
    assert headings[:3] == ["Panoptic quality", "Masks", "Classes"]
    quality = page.locator("h2:text('Panoptic quality') + p + .wide").inner_text()
    assert all(name in quality for name in (*LANDSCAPE.names, "things", "stuff"))
    loaded = "image => image.complete && image.naturalWidth"
    assert page.locator(".pair img").first.evaluate(loaded) == 640
    assert page.locator(".pair img").count() % 2 == 0


def test_a_report_of_boxes_has_no_section_about_masks(scenes: Path, tmp_path: Path):
    index = replace(open_dataset(scenes, "val", "panoptic"), panoptic=None, segmentations=None)
    panoptic = open_dataset(scenes, "val", "panoptic")
    evaluate(OracleDetector(panoptic, wrong=0.4), index, workers=0, report=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Panoptic quality" not in text
    assert "mask AP" not in text


def test_perfect_segmentations_are_reported_as_such(scenes: Path, tmp_path: Path):
    index = open_dataset(scenes, "val", "panoptic")
    evaluate(OracleDetector(index), index, workers=0, report=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Every segment of every image is right to the pixel" in text


def segmentation(image: int, overlap: float, tp: int, fn: int, fp: int) -> WorstSegmentation:
    nothing = Segments(
        torch.zeros(2, 2, dtype=torch.int32), torch.zeros(0).long(), torch.zeros(0), LANDSCAPE
    )
    counts = (np.array([each]) for each in (tp, fn, fp))
    return WorstSegmentation(image, nothing, PQStat(np.array([overlap]), *counts))


def test_the_worst_segmentations_lack_most_of_their_quality():
    """One of two segments missed is worse than one of ten; perfect images are left out."""
    perfect, tenth = segmentation(0, 3.0, 3, 0, 0), segmentation(1, 9.0, 9, 1, 0)
    half, loose, all_wrong = (
        segmentation(2, 1.0, 1, 1, 0),
        segmentation(3, 6.0, 10, 0, 0),
        segmentation(4, 0.0, 0, 4, 4),
    )
    shown = worst_segmentations([perfect, tenth, half, loose, all_wrong])
    assert [each.image for each in shown] == [4, 3, 2, 1]
    assert (
        len(worst_segmentations([segmentation(number, 0.0, 0, 1, 1) for number in range(99)]))
        == MAX_SEGMENTATIONS
    )


def test_segments_of_classes_that_the_data_set_lacks_are_removed():
    """All others get the class index of the data set."""
    ids = torch.tensor([[1, 2], [3, 0]], dtype=torch.int32)
    found = Segments(ids, torch.tensor([0, 2, 1]), torch.tensor([0.9, 0.8, 0.7]), LANDSCAPE)
    ours = with_dataset_classes(found, np.array([4, -1, 0]), LANDSCAPE)
    assert ours.ids.tolist() == [[1, 2], [0, 0]]
    assert ours.classes.tolist() == [4, 0]
