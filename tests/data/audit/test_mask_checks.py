"""A survey says where PNG files and their JSON disagree, before a training does."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.audit.audit import audit
from setmatch.data.audit.mask_checks import drawn_findings
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.data.synthetic.scenes import write_scenes


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write_scenes(tmp_path, 2, 1, 64, 1, 0, panoptic=True)
    return tmp_path


def png(folder: Path) -> Path:
    return folder / "annotations/panoptic_train/train_000000.png"


def findings(folder: Path) -> list:
    index = read_panoptic(folder / "annotations/panoptic_train.json", folder / "images")
    return [found for image in range(2) for found in drawn_findings(index, "train", image)]


def test_sound_segments_have_no_findings(scenes: Path):
    """Nothing to say about what agrees, of panoptic data or of outlines."""
    assert findings(scenes) == []
    index = read_coco(scenes / "annotations/train.json", scenes / "images")
    assert not [found for image in range(2) for found in drawn_findings(index, "train", image)]


def test_what_is_drawn_but_not_listed_is_named(scenes: Path):
    """By its id, with how many pixels; and what it covers has another area."""
    pixels = np.asarray(Image.open(png(scenes))).copy()
    pixels[:3, :5] = (9, 9, 9)
    Image.fromarray(pixels).save(png(scenes))
    strange, *others = findings(scenes)
    assert (strange.severity, strange.what) == ("repaired", "segment that is drawn but not listed")
    assert strange.value.startswith("15 pixels of id 592137")
    assert {found.what for found in others} == {"segment of another area than listed"}


def test_what_is_listed_but_not_drawn_is_named(scenes: Path):
    """By the segment's id; with masks it is not learned."""
    path = scenes / "annotations/panoptic_train.json"
    tree = json.loads(path.read_text())
    segments = tree["annotations"][0]["segments_info"]
    segments.append(segments[0] | {"id": 77})
    path.write_text(json.dumps(tree))
    (missing,) = findings(scenes)
    assert (missing.what, missing.annotation) == ("segment that is listed but not drawn", 77)


def test_few_png_files_that_cannot_be_used_stop_no_training(tmp_path: Path, monkeypatch):
    """One of a hundred (here of six) is left out by name; an evaluation takes it for missed."""
    monkeypatch.setattr("setmatch.data.audit.image_checks.UNREADABLE_AT_MOST", 0.2)
    write_scenes(tmp_path, 6, 1, 64, 0, 0, panoptic=True)
    for split, severity in (("train", "repaired"), ("val", "mend")):
        damaged = sorted((tmp_path / f"annotations/panoptic_{split}").iterdir())[0]
        damaged.write_bytes(b"no picture")
        report = audit(tmp_path, format="panoptic")
        (found,) = (f for f in report.findings if f.split == split and damaged.name in f.value)
        assert (found.severity, found.what) == (severity, "masks that cannot be used")
        assert found.done.startswith("with masks, ")
        assert report.needs_mending == (split == "val")


@pytest.mark.parametrize("damage", ["size", "file"])
def test_png_files_that_cannot_be_used_must_be_mended(scenes: Path, damage: str):
    """Of another size than their image, or no picture at all; the whole survey says so."""
    if damage == "size":
        Image.open(png(scenes)).resize((32, 32)).save(png(scenes))
    else:
        png(scenes).write_bytes(b"no picture")
    (found,) = findings(scenes)
    assert (found.severity, found.what) == ("mend", "masks that cannot be used")
    assert "train_000000.png" in found.value
    report = audit(scenes, format="panoptic")
    assert found in report.findings
    assert report.needs_mending


def test_outlines_around_nothing_are_named(scenes: Path):
    """An object without a pixel is learned as a box, but not as a mask."""
    path = scenes / "annotations/train.json"
    tree = json.loads(path.read_text())
    tree["annotations"][0]["segmentation"] = [[1, 1, 1, 1, 1, 1]]
    path.write_text(json.dumps(tree))
    index = read_coco(path, scenes / "images")
    (found,) = drawn_findings(index, "train", 0)
    assert (found.severity, found.annotation) == ("note", 1)
    assert "without a pixel" in found.what
