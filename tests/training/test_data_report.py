"""Nothing is dropped silently: a run on dirty data lists each drop, and on its fixed copy none."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import run_tiny, write_data

from setmatch.cli import main

# The fault of each of the first objects, and its kind in the report.
OBJECTS = (
    ({"bbox": [5, 5, 0, 9]}, "box without area"),
    ({"bbox": [90, 90, 5, 5]}, "box outside the image"),
    ({"bbox": [float("nan"), 0, 5, 5]}, "box not finite"),
    ({"bbox": [9, 9, -4, 4]}, "box of negative width or height"),
    ({"image_id": 99999}, "of an image that is not listed"),
)


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    """Forty images, of which one is missing, one unreadable and without a size."""
    data = write_data(tmp_path / "data", images=40, splits=("train", "val"))
    source = data / "annotations/train.json"
    tree = json.loads(source.read_text())
    missing, unreadable = tree["images"][-1], tree["images"][-2]
    del unreadable["width"]
    next(data.rglob(missing["file_name"])).unlink()
    next(data.rglob(unreadable["file_name"])).write_bytes(b"<html>404</html>")
    for row, (change, _) in zip(tree["annotations"], OBJECTS):
        row.update(change)
    tree["annotations"].append(tree["annotations"][len(OBJECTS) - 1])  # two drops of one kind
    source.write_text(json.dumps(tree))
    return data


def test_each_dropped_annotation_is_counted_and_listed(dirty: Path, tmp_path: Path):
    """With file or annotation id; what augmentation cut off is counted beside it."""
    tree = json.loads((dirty / "annotations/train.json").read_text())
    run_tiny(dirty, tmp_path / "run", "train.epochs=1")
    report = json.loads((tmp_path / "run/data_report.json").read_text())
    findings = {(each["annotation"], each["file"], each["kind"]) for each in report["findings"]}
    for row, (_, what) in zip(tree["annotations"], OBJECTS):
        assert any((id_, kind) == (row["id"], what) for id_, _, kind in findings), what
    for image, what in (
        (tree["images"][-1], "image file missing"),
        (tree["images"][-2], "image file that cannot be read"),
    ):
        assert (None, image["file_name"], what) in findings
        dropped = {row["id"] for row in tree["annotations"] if row["image_id"] == image["id"]}
        reported = {id_ for id_, _, what in findings if what == "of an image without a usable file"}
        assert dropped <= reported
    for what in {what for _, _, what in findings}:
        listed = sum(each["kind"] == what for each in report["findings"])
        assert sum(n for kind, n in report["counts"].items() if kind.startswith(what)) == listed
    assert report["counts"]["of an image that is not listed: left out"] == 2
    assert report["splits"]["train"]["images"] == 38
    assert report["while_training"]["objects"] > 0


def test_the_fixed_copy_has_nothing_to_fix(dirty: Path, tmp_path: Path):
    outputs = [f"--{name.split('.')[-1]}={tmp_path / name}" for name in ("json", "a.html", "fix")]
    assert main(["audit", str(dirty), *outputs]) == 0
    shutil.copytree(tmp_path / "fix", dirty, dirs_exist_ok=True)
    assert main(["audit", str(dirty), f"--json={tmp_path / 'again'}"]) == 0
    before, after = (json.loads((tmp_path / name).read_text()) for name in ("json", "again"))
    fixes = [each for each in before["findings"] if each["severity"] == "fixed"]
    assert len(fixes) >= len(OBJECTS) + 2
    assert [each for each in after["findings"] if each["severity"] != "note"] == []
