"""Boxes that are misread as a whole must be fixed by hand, and can be: by every verb alike."""

import json
from pathlib import Path

import numpy as np
import pytest

from setmatch.cli import main
from setmatch.data.audit.audit import audit
from setmatch.data.audit.preflight import check_data
from setmatch.data.convert import convert_dataset
from setmatch.data.open import open_dataset
from setmatch.errors import ConfigError, DataError
from setmatch.structures.metadata import Preprocessing
from setmatch.training.train import train
from thorough import usually
from written_boxes import CONVENTIONS, FORMATS, random_boxes, write_set, written

SIZES_PX = np.tile(np.array([[72, 96]], dtype=np.int32), (40, 1))
XYWH_PX = random_boxes(3, 40)
CORNERS = written(XYWH_PX, SIZES_PX, CONVENTIONS[2])


def sorted_boxes(root: Path, **options: str) -> np.ndarray:
    boxes = [open_dataset(root, split, **options).xywh_px for split in ("train", "val")]
    joined = np.concatenate(boxes)
    return joined[np.lexsort(joined.T)]


def test_the_audit_finds_them_once_and_none_of_their_consequences(tmp_path: Path):
    root = write_set(tmp_path, "coco", CORNERS)
    found = audit(root, has_gpu=False)
    (error,) = [each for each in found.findings if each.severity == "error"]
    assert error.kind == "boxes of another convention"
    assert error.action == (
        "they are probably corners x1, y1, x2, y2 in pixels: read them with --boxes xyxy, or with "
        "--boxes xywh if not so"
    )
    assert " as it is read now, and x " in error.value
    assert not [each for each in found.findings if "edge" in each.kind]
    assert audit(root, boxes="xyxy", has_gpu=False).error_count == 0
    kinds = {each.kind for each in audit(root, boxes="xywh", has_gpu=False).findings}
    assert "boxes of another convention" not in kinds


def test_the_commands_of_the_plan_name_the_convention(tmp_path: Path):
    commands = audit(write_set(tmp_path, "coco", CORNERS), boxes="xyxy", has_gpu=False).commands
    assert all(command.endswith("--boxes xyxy") for command in commands)


@pytest.mark.parametrize("format", FORMATS)
def test_fixed_and_converted_copies_need_no_word_any_more(tmp_path: Path, format: str):
    truth = CONVENTIONS[0] if format == "voc" else CONVENTIONS[2]
    root = write_set(tmp_path / "set", format, written(XYWH_PX, SIZES_PX, truth))
    words = truth.difference_from(FORMATS[format])
    right = XYWH_PX[np.lexsort(XYWH_PX.T)]
    np.testing.assert_allclose(sorted_boxes(root, boxes=words), right)
    convert_dataset(root, tmp_path / "converted", "coco", boxes=words)
    np.testing.assert_allclose(sorted_boxes(tmp_path / "converted"), right)
    assert main(["audit", str(root), "--fix", str(tmp_path / "fixed"), "--boxes", words]) == 0
    (tree,) = [json.loads(path.read_text()) for path in tmp_path.glob("fixed/annotations/*.json")]
    fixed = np.array([each["bbox"] for each in tree["annotations"]])
    np.testing.assert_allclose(fixed[np.lexsort(fixed.T)], right)
    areas = [each["area"] for each in tree["annotations"]]
    np.testing.assert_allclose(areas, fixed[:, 2:].prod(axis=1))
    if format == "coco":
        changes = json.loads((tmp_path / "fixed/changes.json").read_text())
        assert {"bbox", "area"} == {change["key"] for change in changes}


def test_nothing_is_done_with_misread_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = write_set(tmp_path / "set", "coco", CORNERS)
    with pytest.raises(DataError, match="probably corners"):
        train(root, out=tmp_path / "run")
    with pytest.raises(DataError, match="probably corners"):
        convert_dataset(root, tmp_path / "converted", "coco")
    for arguments in (
        ["audit", str(root), "--fix", str(tmp_path / "fixed")],
        ["evaluate", "bloodcells_n", str(root)],
    ):
        assert main(arguments) == 2
        assert "read them with --boxes xyxy" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.name in ("run", "fixed", "converted")]


def test_a_word_that_a_format_does_not_know_is_refused(tmp_path: Path):
    root = write_set(tmp_path, "coco", CORNERS)
    with pytest.raises(ConfigError, match="--boxes xyhw: unknown word 'xyhw'; did you mean xywh"):
        open_dataset(root, "train", boxes="xyhw")


def with_flaw(count: int, change: str, root: Path) -> Path:
    """Write 40 boxes in 1,000 pixels, of which `count` have a flaw that no convention explains."""
    boxes = random_boxes(0, 40, 1000, 1000)
    boxes[:count] = {
        "crosses": [-90, 900, 180, 190],
        "negative": [500, 500, -20, 30],
        "flat": [500, 500, 0, 30],
        "outside": [2000, -900, 20, 30],
        "not finite": [500, 500, float("nan"), 30],
    }[change] + np.arange(count)[:, None] * [1, 0, 0, 0]
    return write_set(root, "coco", boxes, 1000, 1000)


@pytest.mark.parametrize(
    "change", usually(["crosses", "negative", "flat", "outside", "not finite"], "crosses", "flat")
)
@pytest.mark.parametrize(
    ("count", "severity"),
    [
        (4, "fixed"),
        (5, "error"),
        pytest.param(30, "error", marks=pytest.mark.thorough),
    ],
)
def test_a_flaw_of_more_than_a_tenth_of_all_boxes_is_no_fix(
    tmp_path: Path, change: str, count: int, severity: str
):
    root = with_flaw(count, change, tmp_path)
    found = [each for each in audit(root, has_gpu=False).findings if each.kind.startswith("box ")]
    assert [each.severity for each in found] == [severity] * count
    assert ("more than a tenth of all boxes" in found[0].action) == (severity == "error")
    dataset = open_dataset(root / "annotations" / "train.json", "train")
    check = check_data(dataset, None, 100, Preprocessing())
    assert any("fix this" in line for line in check.sentences()) == (severity == "error")


def test_a_flaw_of_one_or_two_boxes_is_fixed_however_few_there_are(tmp_path: Path):
    boxes = np.array([[500.0, 500, 0, 30], [500, 500, 20, 0], [10, 10, 50, 50]])
    assert audit(write_set(tmp_path, "coco", boxes, 1000, 1000), has_gpu=False).error_count == 0


def test_turned_boxes_are_fixed_for_good(tmp_path: Path):
    more = [{"attributes": {"rotation": 30.0 * (i % 3), "occluded": False}} for i in range(40)]
    root = write_set(tmp_path / "set", "coco", random_boxes(0, 40), more=more)
    found = audit(root, has_gpu=False)
    assert found.error_count == 0
    turned = [each for each in found.findings if each.kind == "box turned by its rotation"]
    assert len(turned) == 26
    right = sorted_boxes(root)
    assert main(["audit", str(root), "--fix", str(tmp_path / "fixed")]) == 0
    (tmp_path / "fixed/annotations/train.json").replace(root / "annotations/train.json")
    again = open_dataset(root, "train")
    assert not [fix for fix in again.fixes if "rotation" in fix.description]
    tree = json.loads((root / "annotations/train.json").read_text())
    assert all(each["attributes"]["occluded"] is False for each in tree["annotations"])
    inside = np.concatenate([np.maximum(right[:, :2], 0), right[:, :2] + right[:, 2:]], axis=1)
    inside[:, 2:] = np.minimum(inside[:, 2:], (96, 72)) - inside[:, :2]
    fixed = sorted_boxes(root)
    np.testing.assert_allclose(fixed[np.lexsort(fixed.T)], inside[np.lexsort(inside.T)], atol=0.51)
