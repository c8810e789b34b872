"""What the report's page says of segments and masks, as a user reads it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from browser import OpenPage
from oracle_detector import SIDE, Knowing
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import LANDSCAPE, write_scenes
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.metrics.panoptic_quality import PQStat
from setmatch.evaluation.report.segmentation import (
    MOST,
    WorstSegmentation,
    in_slots_of,
    worst_segments,
)
from setmatch.structures.segments import Segments


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 1, 3, SIDE, 2, 0, panoptic=True)
    return folder


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_shows_quality_and_the_worst_segments(
    open_page: OpenPage, scenes: Path, tmp_path: Path, width: int, height: int
):
    """Opened at desktop and phone width: every class, truth beside answer, and nothing wider."""
    index = open_dataset(scenes, "val", "panoptic")
    model = Knowing(index, wrong=0.4)
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


def test_without_masks_the_page_says_nothing_of_them(scenes: Path, tmp_path: Path):
    """Boxes alone have neither section, nor a number for them."""
    index = replace(open_dataset(scenes, "val", "panoptic"), panoptic=None, segmentations=None)
    panoptic = open_dataset(scenes, "val", "panoptic")
    evaluate(Knowing(panoptic, wrong=0.4), index, workers=0, report=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Panoptic quality" not in text
    assert "mask AP" not in text


def test_a_perfect_answer_has_no_worst_image(scenes: Path, tmp_path: Path):
    """And the page says so."""
    index = open_dataset(scenes, "val", "panoptic")
    evaluate(Knowing(index), index, workers=0, report=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Every segment of every image is right to the pixel" in text


def mistaken(image: int, overlap: float, tp: int, fn: int, fp: int) -> WorstSegmentation:
    nothing = Segments(
        torch.zeros(2, 2, dtype=torch.int32), torch.zeros(0).long(), torch.zeros(0), LANDSCAPE
    )
    counts = (np.array([each]) for each in (tp, fn, fp))
    return WorstSegmentation(image, nothing, PQStat(np.array([overlap]), *counts))


def test_the_worst_lack_most_of_their_quality():
    """Half of two segments missed is worse than a tenth of ten; the perfect are left out."""
    perfect, tenth = mistaken(0, 3.0, 3, 0, 0), mistaken(1, 9.0, 9, 1, 0)
    half, loose, all_wrong = (
        mistaken(2, 1.0, 1, 1, 0),
        mistaken(3, 6.0, 10, 0, 0),
        mistaken(4, 0.0, 0, 4, 4),
    )
    shown = worst_segments([perfect, tenth, half, loose, all_wrong])
    assert [each.image for each in shown] == [4, 3, 2, 1]
    assert len(worst_segments([mistaken(number, 0.0, 0, 1, 1) for number in range(99)])) == MOST


def test_classes_that_the_data_lack_are_nothing():
    """What a model found of them is no segment; all others take the numbers of the data's slots."""
    ids = torch.tensor([[1, 2], [3, 0]], dtype=torch.int32)
    found = Segments(ids, torch.tensor([0, 2, 1]), torch.tensor([0.9, 0.8, 0.7]), LANDSCAPE)
    ours = in_slots_of(found, np.array([4, -1, 0]), LANDSCAPE)
    assert ours.ids.tolist() == [[1, 2], [0, 0]]
    assert ours.classes.tolist() == [4, 0]
