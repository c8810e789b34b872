"""Evaluate masks and segments, in one process and in several."""

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from fake_processes import in_processes
from oracle_detector import SIDE, OracleDetector
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import LANDSCAPE, write_scenes
from setmatch.errors import DataError
from setmatch.evaluation.evaluate import evaluate
from setmatch.inference.predict import predict
from setmatch.inference.predict_folder import predict_folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 1, 7, SIDE, 2, 0, panoptic=True)
    return folder


def test_perfect_masks_have_a_panoptic_quality_of_one(scenes: Path, tmp_path: Path):
    """In the report, its table and its JSON."""
    index = open_dataset(scenes, "val", "panoptic")
    report = evaluate(OracleDetector(index), index, workers=0, json=tmp_path / "r.json")
    quality = report.panoptic
    assert (quality.all.PQ, quality.things.PQ, quality.stuff.PQ) == (1, 1, 1)
    assert report.masks.AP == 1
    assert set(report.masks.per_class) == {
        name
        for class_index, name in enumerate(LANDSCAPE.names)
        if class_index not in LANDSCAPE.stuff
    }
    tree = json.loads((tmp_path / "r.json").read_text())
    assert tree["panoptic"]["all"] == {"PQ": 1, "SQ": 1, "RQ": 1, "classes": quality.all.classes}
    assert set(tree["panoptic"]["per_class"]) == set(LANDSCAPE.names)
    shown = io.StringIO()
    Console(file=shown, width=100).print(report.table())
    for word in ("PQ", "SQ", "RQ", "things", "stuff", "water", "FP"):
        assert word in shown.getvalue()


def test_segments_of_an_unreadable_image_are_missed(scenes: Path, tmp_path: Path):
    shutil.copytree(scenes, tmp_path / "set")
    index = open_dataset(tmp_path / "set", "val", "panoptic")
    truth = list(map(index.segments, range(len(index))))
    oracle = OracleDetector(index)
    index.path(2).write_bytes(b"")
    report = evaluate(oracle, index, workers=0, report=tmp_path / "r.html")
    counts = report.panoptic.per_class.values()
    assert sum(each.fn for each in counts) == len(truth[2].classes)
    assert sum(each.fp for each in counts) == 0
    assert sum(each.tp for each in counts) == sum(len(each.classes) for each in truth) - len(
        truth[2].classes
    )


class OracleWithoutMasks(OracleDetector):
    """The oracle without masks."""

    def __init__(self, index) -> None:
        super().__init__(index)
        self.mask_head = None

    def forward(self, batch, targets=()):
        (group,) = super().forward(batch)
        return (replace(group, predictions=replace(group.predictions, masks=None)),)


def damage(png: Path) -> None:
    """Overwrite bytes in the middle of a PNG, which only decoding reveals."""
    content = png.read_bytes()
    png.write_bytes(content[:60] + b"????" + content[64:])


@pytest.mark.parametrize("damage_file", [damage, lambda png: png.write_bytes(b"no image")])
@pytest.mark.parametrize("world", [1, 2])
def test_segments_of_an_unreadable_png_are_missed(scenes, tmp_path, damage_file, world):
    """The report names the file, and no metric gets better."""
    shutil.copytree(scenes, tmp_path / "set")
    index = open_dataset(tmp_path / "set", "val", "panoptic")
    segments, file = int(np.diff(index.offsets)[2]), tmp_path / "detections.json"
    oracle = OracleDetector(open_dataset(scenes, "val", "panoptic"))
    whole = evaluate(oracle, index, workers=0, detections=file)
    damage_file(index.panoptic.path(2))
    reports = in_processes(world, lambda each: evaluate(oracle, index, workers=0, distributed=each))
    assert reports == [reports[0]] * world
    (message,) = reports[0].unreadable
    assert f"count as missed ({segments})" in message
    assert f"{index.panoptic.path(2)}: cannot be read as an image" in message
    counts = reports[0].panoptic.per_class.values()
    assert sum(each.fn for each in counts) == segments
    assert sum(each.fp for each in counts) == 0
    assert reports[0].panoptic.all.PQ < whole.panoptic.all.PQ
    assert reports[0].masks.AP < whole.masks.AP
    boxes = [each.boxes for each in whole.masks.per_class.values()]
    assert [each.boxes for each in reports[0].masks.per_class.values()] == boxes
    kept = [e for e in json.loads(file.read_text()) if e["image_id"] != index.image_ids[2]]
    file.write_text(json.dumps(kept))
    assert reports[0].numbers() == evaluate(file, index).numbers()


def test_two_of_seven_unreadable_images_or_pngs_are_refused(scenes: Path, tmp_path: Path):
    """A model without masks does not need the PNG files."""
    shutil.copytree(scenes, tmp_path / "set")
    index = open_dataset(tmp_path / "set", "val", "panoptic")
    oracle = OracleDetector(open_dataset(scenes, "val", "panoptic"))
    index.panoptic.path(2).write_bytes(b"")
    index.path(5).write_bytes(b"")
    with pytest.raises(DataError, match="2 of 7 images cannot be read"):
        evaluate(oracle, index, workers=0)
    damage(index.panoptic.path(3))
    index.path(5).write_bytes((scenes / "images" / index.name(5)).read_bytes())
    with pytest.raises(DataError, match="2 of 7 images cannot be read"):
        evaluate(oracle, index, workers=0)
    without_masks = OracleWithoutMasks(oracle.index)
    assert evaluate(without_masks, index, workers=0).unreadable == ()


def test_models_with_stuff_are_evaluated_on_panoptic_annotations(scenes: Path):
    """A folder such as COCO's also has instance annotations, which other models use."""
    index = open_dataset(scenes, "val", "panoptic")
    assert evaluate(OracleDetector(index), scenes, workers=0).panoptic.all.PQ == 1
    things = read_coco(scenes / "annotations/val.json", scenes / "images")
    assert evaluate(OracleDetector(things), scenes, workers=0).panoptic is None


def test_several_processes_measure_the_same_panoptic_quality(scenes: Path):
    index = open_dataset(scenes, "val", "panoptic")
    alone = evaluate(OracleDetector(index, wrong=0.3), index, workers=0)
    assert 0 < alone.panoptic.all.PQ < 1
    model = OracleDetector(index, wrong=0.3)
    reports = in_processes(2, lambda each: evaluate(model, index, workers=0, distributed=each))
    for report in reports:
        for group in ("all", "things", "stuff"):
            ours, theirs = getattr(report.panoptic, group), getattr(alone.panoptic, group)
            assert pytest.approx(theirs.PQ, abs=1e-12) == ours.PQ
            assert ours.classes == theirs.classes


def test_mask_ap_equals_that_of_pycocotools(scenes: Path, tmp_path: Path):
    """All twelve metrics, from the file of detections."""
    index = read_coco(scenes / "annotations/val.json", scenes / "images")
    file = tmp_path / "detections.json"
    report = evaluate(OracleDetector(index, wrong=0.4), index, workers=0, detections=file)
    assert report.panoptic is None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(scenes / "annotations/val.json"))
        expected = COCOeval(truth, truth.loadRes(str(file)), "segm")
        expected.evaluate()
        expected.accumulate()
        expected.summarize()
    ours = list(report.masks.numbers().values())
    assert np.allclose(ours, expected.stats, atol=1e-12)
    assert 0 < report.masks.AP < 1
    assert set(report.to_json()["masks"]) >= {"AP", "AP50", "per_class"}


def test_mask_ap_of_panoptic_data_is_that_of_its_things(scenes: Path):
    """It equals mask AP on the instance annotations of the same objects."""
    panoptic = open_dataset(scenes, "val", "panoptic")
    report = evaluate(OracleDetector(panoptic, wrong=0.4), panoptic, workers=0)
    instances = read_coco(scenes / "annotations/val.json", scenes / "images")
    alone = evaluate(OracleDetector(panoptic, wrong=0.4), instances, workers=0)
    assert 0 < report.masks.AP < 1
    assert report.masks.numbers() == alone.masks.numbers()
    assert report.masks.per_class == alone.masks.per_class
    assert set(report.per_class) == set(LANDSCAPE.names)  # boxes are those of stuff too


def test_predict_folder_writes_readable_panoptic_data(scenes: Path, tmp_path: Path):
    """The model has a PQ of 1 on its own predictions."""
    index = open_dataset(scenes, "val", "panoptic")
    sources = [index.path(image) for image in range(len(index))]
    predict_folder(OracleDetector(index), sources, tmp_path / "out", progress=False)
    from setmatch.data.formats.coco.read_panoptic import read_panoptic

    again = read_panoptic(tmp_path / "out/panoptic.json", scenes / "images")
    assert again.fixes == ()
    assert again.categories == index.categories
    assert evaluate(OracleDetector(index), again, workers=0).panoptic.all.PQ == 1
    rows = json.loads((tmp_path / "out/detections.json").read_text())
    assert all(row["segmentation"]["size"] == [SIDE, SIDE] for row in rows)
    assert len(list((tmp_path / "out/drawn").iterdir())) == len(index)


def test_predict_returns_masks_and_segments_and_draws_them(scenes: Path):
    index = open_dataset(scenes, "val", "panoptic")
    result = predict(OracleDetector(index), index.path(0), threshold=0.5)
    assert torch.equal(result.segments.ids > 0, torch.ones(SIDE, SIDE, dtype=torch.bool))
    assert len(result.masks) == len(result)
    assert result.draw().size == (SIDE, SIDE)
    few = predict(OracleDetector(index), index.path(0), segment_threshold=1.0)
    assert len(few.segments) == 0
