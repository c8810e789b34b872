"""The live page shows images, the first batch and classes, within bounds, also after a resume."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from tiny_runs import CrashError, crash_before, run_tiny, write_data

from setmatch.config import TrainSettings
from setmatch.data.batches.loader import Minibatch
from setmatch.data.open import open_dataset
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.structures.outputs import Predictions
from setmatch.training.logging.live import samples as live
from setmatch.training.logging.live.class_table import class_rows
from setmatch.training.logging.live.live_page import LivePage
from setmatch.training.logging.live.recorder import SampleRecorder
from setmatch.training.logging.live.samples import Evaluation, Samples, load_samples
from setmatch.training.schedule.schedule import make_schedule

PLAN = make_schedule(100, TrainSettings(epochs=10, batch_size=10))
NAMES = ("square", "other")
LARGEST_PAGE = 600_000
OFTEN = ("train.epochs=2", "train.evaluate_every=1", "train.log_every=1")


@pytest.fixture(scope="module")
def data_with_validation(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("live") / "data", splits=("train", "val"))


@pytest.fixture(scope="module")
def run(data_with_validation, tmp_path_factory):
    """A run with two evaluations."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return run_tiny(data_with_validation, out, *OFTEN).folder


def metrics_of(**classes):
    """What an evaluation returns, for classes with (AP, boxes)."""
    per_class = {name: {"AP": ap, "AP50": ap, "boxes": n} for name, (ap, n) in classes.items()}
    return {"AP": 0.25, "per_class": per_class}


def detector_of(*names):
    card = ModelCard("tiny", {}, Categories(tuple(range(len(names))), names), Preprocessing(64, 64))
    return build(card)


def predictions_of(classes, cxcywh, num_classes=2):
    """The predictions of one image: a query of certain class for each box."""
    logits = torch.full((1, 1, len(classes), num_classes + 1), -20.0)
    logits[0, 0, range(len(classes)), list(classes)] = 20.0
    return Predictions(logits, torch.tensor(cxcywh)[None, None])


def test_every_run_leaves_images_classes_and_its_first_batch(run):
    kept = load_samples(run, 10**9)
    assert [each.step for each in kept.evaluations] == [3, 5]
    assert 0 < len(kept.images) <= 6
    assert len(kept.batch) == 4
    assert {name for name, _ in kept.classes} == {*NAMES}
    page = (run / "live.html").read_text()
    assert page.count("data:image/jpeg;base64,") == len(kept.images) + len(kept.batch)
    for text in ("Validation images", "Classes", "First batch", "Smoothing", "training time"):
        assert text in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_resumed_run_keeps_its_images(data_with_validation, run, tmp_path, monkeypatch):
    """The same images, batch and predictions as without an interruption."""
    out = tmp_path / "run"
    with monkeypatch.context() as power_cut:
        crash_before(4, power_cut)
        with pytest.raises(CrashError):
            run_tiny(data_with_validation, out, *OFTEN)
    assert [each.step for each in load_samples(out, 10**9).evaluations] == [3]
    run_tiny(data_with_validation, out, *OFTEN, resume=True)
    assert (out / "live.json").read_text() == (run / "live.json").read_text()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"batch": 3}', "[" * 10_000, '{"images": [{"uri": "x"}]}']
)
def test_a_damaged_file_costs_its_history_alone(text, tmp_path):
    (tmp_path / "live.json").write_text(text)
    assert load_samples(tmp_path, 10) == Samples()


def test_only_data_uris_are_read(tmp_path):
    """A file from elsewhere cannot make the page load anything."""
    image = {"name": "a", "size_px": [4, 4], "objects": [], "image_id": 1}
    for uri, count in (("data:image/jpeg;base64,AAAA", 1), ("https://example.org/a.jpg", 0)):
        (tmp_path / "live.json").write_text(json.dumps({"images": [{**image, "uri": uri}]}))
        assert len(load_samples(tmp_path, 10).images) == count


def test_predictions_are_kept_where_they_are(data_with_validation, tmp_path):
    """Boxes in thousandths, classes, scores in percent, best first; the truth beside them."""
    validation = open_dataset(data_with_validation, "val")
    recorder = SampleRecorder(tmp_path, detector_of(*NAMES), validation)
    image_id = int(validation.image_ids[1])  # which has one object
    recorder.add((image_id,), predictions_of([1, 0], [[0.5, 0.5, 0.2, 0.4], [0.1, 0.2, 0.2, 0.1]]))
    recorder.close(5, metrics_of(square=(0.5, 3), other=(None, 0)))
    (image,) = recorder.samples.images
    assert image.image_id == image_id
    (marks,) = recorder.samples.evaluations[0].marks
    assert set(marks) == {(400, 300, 200, 400, 1, 100), (0, 150, 200, 100, 0, 100)}
    x, y, width, height = validation.xywh_px[validation.rows(1)[0]]
    (truth,) = image.objects
    assert truth[:4] == pytest.approx([1000 * v / 64 for v in (x, y, width, height)], abs=1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_boxes_that_are_not_finite_are_left_out(bad, data_with_validation, tmp_path):
    validation = open_dataset(data_with_validation, "val")
    recorder = SampleRecorder(tmp_path, detector_of(*NAMES), validation)
    image_id = int(validation.image_ids[1])
    recorder.add((image_id,), predictions_of([1, 0], [[bad, 0.5, 0.2, 0.4], [0.1, 0.2, 9e9, 0.1]]))
    recorder.close(5, metrics_of(square=(0.5, 3)))
    (marks,) = recorder.samples.evaluations[0].marks
    assert [mark[4] for mark in marks] == [0]
    assert all(-1000 <= value <= 3000 for mark in marks for value in mark)


def test_the_first_batch_is_what_the_model_sees(tmp_path):
    """Pixels are as before the normalization; boxes lie on the image, not on its padding."""
    preprocessing = Preprocessing()
    mean = torch.tensor(preprocessing.mean)[:, None, None]
    std = torch.tensor(preprocessing.std)[:, None, None]
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 40, 20)
    batch = Batch.from_images([(red - mean) / std, torch.zeros(3, 40, 80)])
    targets = (
        Target(torch.tensor([1]), torch.tensor([[0.5, 0.5, 1.0, 1.0]])),
        Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)),
    )
    recorder = SampleRecorder(tmp_path, detector_of(*NAMES), None)
    recorder.add_batch([Minibatch(batch, targets, (7, 8))], preprocessing)
    first, second = recorder.samples.batch
    assert first.objects == ((0, 0, 250, 1000, 1, 100),)  # a quarter of the padded width
    assert second.objects == ()
    assert first.size_px == (80, 40)
    assert load_samples(tmp_path, 1).batch == (first, second)


def test_of_many_evaluations_evenly_spaced_ones_stay():
    kept = Samples()
    for step in range(1, 2001):
        kept = kept.plus(Evaluation(step, 0.5, (), ()))
    steps = [each.step for each in kept.evaluations]
    assert len(steps) == live.MOST_EVALUATIONS
    assert (steps[0], steps[-1]) == (1, 2000)
    assert np.diff(steps).max() <= 8 * 2000 / live.MOST_EVALUATIONS


def test_an_evaluation_that_is_repeated_is_there_once():
    kept = Samples()
    for step in (10, 20, 30, 20):
        kept = kept.plus(Evaluation(step, 0.5, (), ()))
    assert [each.step for each in kept.evaluations] == [10, 20]


def test_the_page_of_a_huge_run_stays_small(tmp_path, data_with_validation):
    """A thousand classes with long names, ten thousand evaluations, images that are only noise."""
    names = [f"class {number} {'x' * 200}" for number in range(1000)]
    recorder = SampleRecorder(tmp_path, detector_of(*names), None)
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(8, 3, 400, 400, generator=random)
    crowded = Target(torch.arange(200), torch.rand(200, 4, generator=random) / 2)
    batch = Batch(noise, torch.ones(8, 400, 400, dtype=torch.bool), False)
    minibatch = Minibatch(batch, (crowded,) * 8, tuple(range(8)))
    recorder.add_batch([minibatch], Preprocessing())
    recorder.close(1, metrics_of(**dict.fromkeys(names, (0.5, 7))))
    marks = tuple((900, 900, 100, 100, number * 13, 99) for number in range(12))
    full = Evaluation(0, 0.123456789, (marks,) * 6, (500,) * 100)
    recorder.samples = dataclasses.replace(
        recorder.samples,
        images=recorder.samples.batch[:6],
        evaluations=tuple(dataclasses.replace(full, step=166 * n) for n in range(60)),
    )
    rows = [
        {"kind": kind, "step": step, "seconds": step * 1.5, "loss": 3.21, "AP": 0.1, "AP50": 0.2}
        for step in range(1, 10_001)
        for kind in ("train", "val")
    ]
    LivePage(tmp_path, PLAN, rows, recorder).end("done")
    assert (tmp_path / "live.html").stat().st_size < LARGEST_PAGE
    page = (tmp_path / "live.html").read_text()
    assert "The 100 of 1,000 classes with the most objects" in page
    assert page.count("<circle") <= 2 * 4 * 40


def test_the_table_has_the_latest_its_change_and_the_best():
    scores = ((100, None), (400, None), (250, 999))
    evaluations = [Evaluation(step, 0.1, (), each) for step, each in enumerate(scores)]
    kept = Samples(evaluations=tuple(evaluations), classes=(("cat", 1234), ("dog", 0)))
    cat, dog = class_rows(kept)
    assert (cat.objects, cat.latest, cat.change, cat.best) == ("1,234", "25.0", "−15.0", "40.0")
    assert cat.path == "M0 22L60 14L120 18"
    assert (dog.latest, dog.change, dog.path) == ("99.9", "", "")


def test_panoptic_quality_is_shown_where_it_is_the_measure(tmp_path):
    quality = {"PQ": 0.4, "tp": 3, "fn": 2}
    panoptic = {
        "all": {"PQ": 0.4},
        "stuff": {"classes": 1},
        "per_class": {
            "absent": {"PQ": 0.0, "tp": 0, "fn": 0},
            "sky": quality,
            "cat": {**quality, "PQ": 0.5},
        },
    }
    recorder = SampleRecorder(tmp_path, detector_of(*NAMES), None)
    recorder.close(3, {**metrics_of(cat=(0.1, 5)), "panoptic": panoptic})
    assert recorder.samples.measure == "PQ"
    assert recorder.samples.classes == (("cat", 5), ("sky", 5))
    assert recorder.samples.evaluations[0].class_scores == (500, 400)


def test_the_page_is_read_in_a_browser(run, open_page):
    """The slider changes the boxes, smoothing the curves, and the axis the charts; all is kept."""
    page = open_page(run / "live.html", width=400, height=900)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    said = page.locator("output[for=evaluation]")
    assert said.inner_text().startswith("after step 5: AP ")
    page.locator("#evaluation").fill("0")
    assert said.inner_text().startswith("after step 3: AP ")
    assert page.locator("#validation rect[stroke-dasharray]").count() > 0
    assert page.locator("#batch rect").count() > 0
    loss = page.locator("[data-axis=step] figure", has_text="total loss")
    raw = loss.locator(".curve").get_attribute("d")
    page.locator("#smoothing").fill("90")
    assert loss.locator(".curve.raw").get_attribute("d") == raw
    smooth = loss.locator(".curve:not(.raw)").get_attribute("d")
    assert smooth != raw
    assert re.sub(r" [\d.]+", "", smooth) == re.sub(r" [\d.]+", "", raw)  # the same steps
    page.locator("#axis").select_option("time")
    assert not page.locator("[data-axis=step]").is_visible()
    assert page.locator("[data-axis=time]").is_visible()
    page.reload()
    assert said.inner_text().startswith("after step 3: AP ")
    assert page.locator("output[for=smoothing]").inner_text() == "0.90"
    assert page.locator("[data-axis=time]").is_visible()


def test_names_that_begin_alike_keep_their_own_scores(tmp_path):
    names = ["x" * 90 + ending for ending in "ab"]
    recorder = SampleRecorder(tmp_path, detector_of(*NAMES), None)
    recorder.close(1, metrics_of(**{names[0]: (0.25, 2), names[1]: (0.75, 1)}))
    first, second = class_rows(load_samples(tmp_path, 1))
    assert (first.latest, second.latest) == ("25.0", "75.0")
    assert len(first.name) == 80
