"""Masks and segments are measured beside boxes, in one process and in several."""

import contextlib
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from torch import nn

from setmatch.data.formats.coco import read_coco
from setmatch.data.opening import open_dataset
from setmatch.data.scenes import LANDSCAPE, write_scenes
from setmatch.evaluate import evaluate
from setmatch.models.detector import Detector
from setmatch.predict import predict, predict_folder
from setmatch.scoring import Softmax
from setmatch.structures import Batch, Card, Predictions, Preprocessing, Stream

SIDE = 64


class Knowing(Detector):
    """Knows every picture by its mean, and answers with its annotated masks, at a quarter."""

    def __init__(self, index, wrong: float = 0.0) -> None:
        nn.Module.__init__(self)
        self.scoring, self.num_queries = Softmax(), 12
        self.card = Card("stub", {}, index.categories, Preprocessing(SIDE, SIDE))
        self.index, self.wrong = index, wrong
        self.known: dict[tuple, int] = {}
        from setmatch.data.images import read_image
        from setmatch.data.transforms import prepare

        for image in range(len(index)):
            pixels = prepare(read_image(index.path(image)), self.card.preprocessing)
            self.known[tuple(pixels[:, 0, :4].flatten().tolist())] = image

    def forward(self, batch: Batch, targets=()) -> tuple[Stream, ...]:
        classes = len(self.index.categories)
        logits = torch.full((1, len(batch.pixels), 12, classes + 1), -9.0)
        logits[..., -1] = 3
        boxes = torch.full((1, len(batch.pixels), 12, 4), 0.5)
        masks = torch.full((len(batch.pixels), 12, SIDE, SIDE), -9.0)
        for place, pixels in enumerate(batch.pixels):
            image = self.known[tuple(pixels[:, 0, :4].flatten().tolist())]
            generator = torch.Generator().manual_seed(image)
            target = self.index.target(image, masks=True)
            for query in range(len(target)):
                lies = torch.rand((), generator=generator) < self.wrong
                slot = int(target.classes[query]) if not lies else 0
                logits[0, place, query, slot] = 9 + query / 10
                logits[0, place, query, -1] = -9
            boxes[0, place, : len(target)] = target.cxcywh
            masks[place, : len(target)] = target.masks.unpack() * 18.0 - 9
        return (Stream("main", Predictions(logits, boxes, masks)),)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 1, 7, SIDE, 2, 0, panoptic=True)
    return folder


def test_who_knows_everything_has_a_panoptic_quality_of_one(scenes: Path, tmp_path: Path):
    """From pictures on disk to the report, its table and its JSON."""
    index = open_dataset(scenes, "val", "panoptic")
    report = evaluate(Knowing(index), index, workers=0, json=tmp_path / "r.json")
    quality = report.panoptic
    assert (quality.all.PQ, quality.things.PQ, quality.stuff.PQ) == (1, 1, 1)
    assert report.masks is None
    tree = json.loads((tmp_path / "r.json").read_text())
    assert tree["panoptic"]["all"] == {"PQ": 1, "SQ": 1, "RQ": 1, "classes": quality.all.classes}
    assert set(tree["panoptic"]["per_class"]) == set(LANDSCAPE.names)
    shown = io.StringIO()
    Console(file=shown, width=100).print(report.table())
    for word in ("PQ", "SQ", "RQ", "things", "stuff", "water", "invented"):
        assert word in shown.getvalue()


def test_several_processes_measure_what_one_does(scenes: Path):
    """Tallies of shares add up to the tally of all."""
    index = open_dataset(scenes, "val", "panoptic")
    alone = evaluate(Knowing(index, wrong=0.3), index, workers=0)
    assert 0 < alone.panoptic.all.PQ < 1
    barrier, heard, reports = threading.Barrier(2), [None, None], [None, None]

    def process(rank: int) -> None:
        def gather(value):
            heard[rank] = value
            barrier.wait(30)
            return list(heard)

        model = Knowing(index, wrong=0.3)
        reports[rank] = evaluate(model, index, workers=0, rank=rank, world=2, gather=gather)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for report in reports:
        for group in ("all", "things", "stuff"):
            ours, theirs = getattr(report.panoptic, group), getattr(alone.panoptic, group)
            assert pytest.approx(theirs.PQ, abs=1e-12) == ours.PQ
            assert ours.classes == theirs.classes


def test_mask_ap_is_that_of_pycocotools(scenes: Path, tmp_path: Path):
    """All twelve numbers, on objects one by one, from the results that are written."""
    index = read_coco(scenes / "annotations/val.json", scenes / "images")
    found = tmp_path / "found.json"
    report = evaluate(Knowing(index, wrong=0.4), index, workers=0, detections=found)
    assert report.panoptic is None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(scenes / "annotations/val.json"))
        oracle = COCOeval(truth, truth.loadRes(str(found)), "segm")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    ours = list(report.masks.numbers().values())
    assert np.allclose(ours, oracle.stats, atol=1e-12)
    assert 0 < report.masks.AP < 1
    assert set(report.to_json()["masks"]) >= {"AP", "AP50", "per_class"}


def test_prediction_writes_what_is_read_again_as_panoptic_data(scenes: Path, tmp_path: Path):
    """COCO panoptic JSON and PNG files, by which the model scores itself perfect."""
    index = open_dataset(scenes, "val", "panoptic")
    sources = [index.path(image) for image in range(len(index))]
    predict_folder(Knowing(index), sources, tmp_path / "out", progress=False)
    from setmatch.data.formats.panoptic import read_panoptic

    again = read_panoptic(tmp_path / "out/panoptic.json", scenes / "images")
    assert again.repairs == ()
    assert again.categories == index.categories
    assert evaluate(Knowing(index), again, workers=0).panoptic.all.PQ == 1
    rows = json.loads((tmp_path / "out/detections.json").read_text())
    assert all(row["segmentation"]["size"] == [SIDE, SIDE] for row in rows)
    assert len(list((tmp_path / "out/pictures").iterdir())) == len(index)


def test_a_found_picture_has_segments_and_draws_them(scenes: Path):
    """One answer: boxes with masks, and what is at every pixel."""
    index = open_dataset(scenes, "val", "panoptic")
    answer = predict(Knowing(index), index.path(0), threshold=0.5)
    assert torch.equal(answer.segments.ids > 0, torch.ones(SIDE, SIDE, dtype=torch.bool))
    assert len(answer.masks) == len(answer)
    assert answer.draw().size == (SIDE, SIDE)
    few = predict(Knowing(index), index.path(0), segment_threshold=1.0)
    assert len(few.segments) == 0
