"""Without a validation split, the same training images are always held out for one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setmatch.data import open as opening
from setmatch.data.audit.audit import audit
from setmatch.data.convert import convert_dataset
from setmatch.data.open import open_dataset, require_split
from setmatch.data.splits import holdout_mask, split_of_list
from setmatch.errors import DataError
from setmatch.training.start.training_data import open_training_data

HELD_OUT = [0, 2, 7, 15, 27, 29]
NAMES = st.lists(st.text("abcdef", min_size=1, max_size=6), unique=True, min_size=40, max_size=60)


def test_about_a_sixth_is_held_out():
    share = holdout_mask([f"{number:012d}.jpg" for number in range(20_000)]).mean()
    assert share == pytest.approx(1 / 6, abs=0.01)


@given(NAMES, NAMES)
def test_adding_images_moves_no_image_to_the_other_split(names: list[str], more: list[str]):
    before, after = holdout_mask(names), holdout_mask(names + more)
    if before.any():
        assert (after[: len(names)] == before).all()


def test_the_held_out_images_are_the_same_everywhere():
    """On every machine and in every version."""
    names = [f"{number}.jpg" for number in range(30)]
    assert np.flatnonzero(holdout_mask(names)).tolist() == HELD_OUT
    assert (
        holdout_mask([f"some/folder/{name}" for name in names]).tolist()
        == holdout_mask(names).tolist()
    )


def test_copies_of_a_photograph_stay_together():
    """Roboflow writes several augmented copies of each."""
    names = [f"{number}_jpg.rf.{copy}.jpg" for number in range(50) for copy in "abc"]
    assert len(set(map(tuple, holdout_mask(names).reshape(50, 3)))) == 2
    assert (holdout_mask(names).reshape(50, 3).std(axis=1) == 0).all()


@pytest.mark.parametrize("count", range(2, 8))
def test_two_or_more_images_are_divided(count: int):
    """At least one is on each side."""
    out = holdout_mask([f"{number}.jpg" for number in range(count)])
    assert 0 < out.sum() < count
    assert not holdout_mask(["12.jpg"]).any()


def write(root: Path, images: int) -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    for number in range(images):
        Image.new("RGB", (6, 4)).save(root / f"images/{number}.png")
    tree = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": 4, "width": 6} for n in range(images)
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [n % 3, 0, 2, 2]}
            for n in range(images)
        ],
    }
    (root / "annotations/train.json").write_text(json.dumps(tree))
    return root


def test_both_parts_together_are_the_whole_and_a_note_says_so(tmp_path: Path):
    root = write(tmp_path, 30)
    train, val = open_dataset(root, "train"), open_dataset(root, "valid")
    ids = [set(dataset.image_ids.tolist()) for dataset in (train, val)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == set(range(30))
    for dataset in (train, val):
        assert dataset.annotation_ids.tolist() == dataset.image_ids.tolist()
        assert [dataset.name(i) for i in range(len(dataset))] == [
            f"{n}.png" for n in dataset.image_ids
        ]
        assert dataset.xywh_px[:, 0].tolist() == (dataset.image_ids % 3).tolist()
        (note,) = dataset.notes
        assert f"{len(val)} of the 30 training images are held out" in note


def test_a_single_image_is_for_training(tmp_path: Path):
    """A note says so, and opening the validation split is an error."""
    root = write(tmp_path, 1)
    train = open_dataset(root, "train")
    assert (len(train), len(train.notes)) == (1, 1)
    with pytest.raises(DataError, match="too few images to hold some out"):
        open_dataset(root, "val")


def test_a_json_file_is_never_divided(tmp_path: Path):
    assert len(open_dataset(write(tmp_path, 30) / "annotations/train.json", "train")) == 30


def test_a_run_looks_for_its_splits_and_reads_them_once(tmp_path: Path, monkeypatch):
    """Also where validation images are held out of the training split, which is the same file."""
    root = write(tmp_path, 30)
    calls = []

    def count(name):
        original = getattr(opening, name)
        monkeypatch.setattr(opening, name, lambda *args: calls.append(name) or original(*args))

    count("discover_dataset")
    count("cached")
    training, validation = opening.open_training_splits(root)
    assert calls == ["discover_dataset", "cached"]
    assert validation is not None
    for split, opened in (("train", training), ("val", validation)):
        alone = open_dataset(root, split)
        assert opened.file_names() == alone.file_names()
        assert opened.notes == alone.notes


@pytest.mark.parametrize("splits", ["train: images\n", "train: images\nval: more\n"])
def test_a_data_yaml_is_its_folder(tmp_path: Path, splits: str):
    """Images held out are validated on; every split is audited and converted."""
    root = write(tmp_path, 30)
    (root / "annotations/train.json").unlink()
    (root / "labels").mkdir()
    for number in range(30):
        (root / f"labels/{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    shutil.copytree(root / "images", root / "more")
    for path in (root / "more").iterdir():
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n")
    file = root / "data.yaml"
    file.write_text(f"{splits}names: [cat]\n")
    for split in ("train", "val"):
        assert open_dataset(file, split).file_names() == open_dataset(root, split).file_names()
    require_split(file, "val")
    data = open_training_data(file)
    assert data.validation is not None
    assert len(data.training) + len(data.validation) == (30 if "val" not in splits else 60)
    result = audit(file, all_images=True)
    images = {split: len(dataset) for split, dataset in result.splits.items()}
    assert images == {"train": len(data.training), "val": len(data.validation)}
    assert convert_dataset(file, tmp_path / "to", "yolo").images == images


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        *(("train", "train"), ("VALID", "val"), ("train_list", "train"), ("val-list", "val")),
        *(("list_of_train", None), ("testing_images", "test"), ("autosplit_val", "val")),
        *(("eval", "val"), ("evaluation_list", "val"), ("evaluator", None)),
        *(("cat_train", None), ("trainval", None), ("train_val", None), ("list", None)),
    ],
)
def test_a_list_of_images_tells_its_split(stem: str, split: str | None):
    assert split_of_list(stem) == split
