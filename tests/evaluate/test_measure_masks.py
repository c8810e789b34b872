"""Masks and segments are measured beside boxes, in one process and in several."""

import contextlib
import io
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from knowing import SIDE, Knowing
from setmatch.data.formats.coco import read_coco
from setmatch.data.opening import open_dataset
from setmatch.data.scenes import LANDSCAPE, write_scenes
from setmatch.evaluate import evaluate
from setmatch.predict import predict, predict_folder


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
    assert report.masks.AP == 1
    assert set(report.masks.per_class) == {
        name for slot, name in enumerate(LANDSCAPE.names) if slot not in LANDSCAPE.stuff
    }
    tree = json.loads((tmp_path / "r.json").read_text())
    assert tree["panoptic"]["all"] == {"PQ": 1, "SQ": 1, "RQ": 1, "classes": quality.all.classes}
    assert set(tree["panoptic"]["per_class"]) == set(LANDSCAPE.names)
    shown = io.StringIO()
    Console(file=shown, width=100).print(report.table())
    for word in ("PQ", "SQ", "RQ", "things", "stuff", "water", "invented"):
        assert word in shown.getvalue()


def test_segments_of_an_unreadable_image_are_missed(scenes: Path, tmp_path: Path):
    """Who knows everything else has every segment of that one image missed, and none invented."""
    shutil.copytree(scenes, tmp_path / "set")
    index = open_dataset(tmp_path / "set", "val", "panoptic")
    truth = list(map(index.segments, range(len(index))))
    knowing = Knowing(index)
    index.path(2).write_bytes(b"")
    report = evaluate(knowing, index, workers=0, report=tmp_path / "r.html")
    counts = report.panoptic.per_class.values()
    assert sum(each.missed for each in counts) == len(truth[2].classes)
    assert sum(each.invented for each in counts) == 0
    assert sum(each.matched for each in counts) == sum(len(each.classes) for each in truth) - len(
        truth[2].classes
    )


def test_of_a_folder_that_has_both_every_pixel_is_measured_where_stuff_is_known(scenes: Path):
    """COCO's own folder has objects as well, in files that stand first."""
    index = open_dataset(scenes, "val", "panoptic")
    assert evaluate(Knowing(index), scenes, workers=0).panoptic.all.PQ == 1
    things = read_coco(scenes / "annotations/val.json", scenes / "images")
    assert evaluate(Knowing(things), scenes, workers=0).panoptic is None


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


def test_mask_ap_of_panoptic_data_is_that_of_its_things(scenes: Path):
    """Stuff is not counted one by one: as COCO's instances, whose file holds the same objects."""
    panoptic = open_dataset(scenes, "val", "panoptic")
    report = evaluate(Knowing(panoptic, wrong=0.4), panoptic, workers=0)
    instances = read_coco(scenes / "annotations/val.json", scenes / "images")
    alone = evaluate(Knowing(panoptic, wrong=0.4), instances, workers=0)
    assert 0 < report.masks.AP < 1
    assert report.masks.numbers() == alone.masks.numbers()
    assert report.masks.per_class == alone.masks.per_class
    assert set(report.per_class) == set(LANDSCAPE.names)  # boxes are those of stuff too


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
