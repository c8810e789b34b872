"""Training refuses data of which more than a tenth of the boxes would be left out."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from setmatch.data.audit.checks.checks import require_kept_boxes
from setmatch.data.audit.fix import write_fixed
from setmatch.data.discovery import discover_dataset
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError

# What a tool may write where a box belongs, none of which has an object in it.
LOST: dict[str, Any] = {
    "flat": [5, 5, 0, 9],
    "negative": [30, 30, -9, 9],
    "not finite": [5, 5, None, 9],
    "outside": [500, 500, 9, 9],
    "five numbers": [5, 5, 9, 9, 1],
    "none": [],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Scenes of one box each, whose boxes `spoil` replaces."""
    write_scenes(tmp_path / "data", 40, 2, 64, 0, 0)
    path = tmp_path / "data/annotations/train.json"
    tree = json.loads(path.read_text())
    tree["annotations"] = tree["annotations"][:40]
    path.write_text(json.dumps(tree))
    return tmp_path / "data"


def spoil(data: Path, *boxes: Any) -> None:
    path = data / "annotations/train.json"
    tree = json.loads(path.read_text())
    for annotation, box in zip(tree["annotations"], boxes, strict=False):
        annotation["bbox"] = box
        annotation.pop("segmentation", None)
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize("kind", LOST)
def test_many_lost_boxes_are_refused_and_few_are_left_out(data: Path, kind: str):
    spoil(data, *[LOST[kind]] * 4)
    require_kept_boxes(open_dataset(data, "train"))
    spoil(data, *[LOST[kind]] * 5)
    with pytest.raises(DataError, match=r"5 of 40 boxes are left out \(5 × .*--fix") as refused:
        require_kept_boxes(open_dataset(data, "train"))
    assert "\n" not in str(refused.value)


def test_flaws_that_are_rare_each_are_single_mistakes(data: Path):
    """As for the audit, which has no error for them."""
    spoil(data, *LOST.values())
    require_kept_boxes(open_dataset(data, "train"))


def test_what_the_audit_has_fixed_is_trained_on(data: Path, tmp_path: Path):
    spoil(data, *[LOST["flat"]] * 8)
    write_fixed(data, discover_dataset(data), tmp_path / "fixed")
    copytree(tmp_path / "fixed", data, dirs_exist_ok=True)
    fixed = open_dataset(data, "train")
    require_kept_boxes(fixed)
    assert len(fixed.crowd) == 32
