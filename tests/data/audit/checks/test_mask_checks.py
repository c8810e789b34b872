"""Checks of masks find where PNG files and their JSON disagree."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.audit.audit import audit
from setmatch.data.audit.checks.mask_checks import check_masks
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
    dataset = read_panoptic(folder / "annotations/panoptic_train.json", folder / "images")
    return [found for image in range(2) for found in check_masks(dataset, "train", image)]


def test_valid_masks_have_no_findings(scenes: Path):
    """For panoptic segments and for polygons."""
    assert findings(scenes) == []
    dataset = read_coco(scenes / "annotations/train.json", scenes / "images")
    assert not [found for image in range(2) for found in check_masks(dataset, "train", image)]


def test_a_segment_in_the_png_but_not_in_the_json_is_found(scenes: Path):
    """The segments that it covers differ in area."""
    pixels = np.asarray(Image.open(png(scenes))).copy()
    pixels[:3, :5] = (9, 9, 9)
    Image.fromarray(pixels).save(png(scenes))
    unlisted, *others = findings(scenes)
    assert (unlisted.severity, unlisted.kind) == ("fixed", "segment in the PNG but not in the JSON")
    assert unlisted.value.startswith("15 pixels of id 592137")
    assert {found.kind for found in others} == {"segment area differs between JSON and PNG"}


def test_a_segment_in_the_json_but_not_in_the_png_is_found(scenes: Path):
    path = scenes / "annotations/panoptic_train.json"
    tree = json.loads(path.read_text())
    segments = tree["annotations"][0]["segments_info"]
    segments.append(segments[0] | {"id": 77})
    path.write_text(json.dumps(tree))
    (missing,) = findings(scenes)
    assert (missing.kind, missing.annotation) == ("segment in the JSON but not in the PNG", 77)


def test_a_few_unusable_png_files_are_left_out_of_training(tmp_path: Path, monkeypatch):
    """Training tolerates one of a hundred (here of six); in an evaluation it is an error."""
    monkeypatch.setattr("setmatch.data.audit.checks.image_checks.UNREADABLE_AT_MOST", 0.2)
    write_scenes(tmp_path, 6, 1, 64, 0, 0, panoptic=True)
    for split, severity in (("train", "fixed"), ("val", "error")):
        damaged = sorted((tmp_path / f"annotations/panoptic_{split}").iterdir())[0]
        damaged.write_bytes(b"no image")
        report = audit(tmp_path, format="panoptic")
        (found,) = (f for f in report.findings if f.split == split and damaged.name in f.value)
        assert (found.severity, found.kind) == (severity, "masks that cannot be used")
        assert found.action.startswith("for models with masks, ")
        assert report.error_count == (split == "val")


@pytest.mark.parametrize("damage", ["size", "file"])
def test_a_png_file_of_the_wrong_size_or_without_an_image_is_an_error(scenes: Path, damage: str):
    """Also in the audit as a whole."""
    if damage == "size":
        Image.open(png(scenes)).resize((32, 32)).save(png(scenes))
    else:
        png(scenes).write_bytes(b"no image")
    (found,) = findings(scenes)
    assert (found.severity, found.kind) == ("error", "masks that cannot be used")
    assert "train_000000.png" in found.value
    report = audit(scenes, format="panoptic")
    assert found in report.findings
    assert report.error_count


def test_an_object_with_an_empty_mask_is_found(scenes: Path):
    """Its box is trained, its mask is not."""
    path = scenes / "annotations/train.json"
    tree = json.loads(path.read_text())
    tree["annotations"][0]["segmentation"] = [[1, 1, 1, 1, 1, 1]]
    path.write_text(json.dumps(tree))
    dataset = read_coco(path, scenes / "images")
    (found,) = check_masks(dataset, "train", 0)
    assert (found.severity, found.annotation) == ("note", 1)
    assert "empty mask" in found.kind
