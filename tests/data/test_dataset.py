"""Data sets are found in their folders, and take little memory."""

import json
import pickle
from pathlib import Path

import pytest
from PIL import Image

from generated_dataset import generated
from setmatch.data.open import open_dataset
from setmatch.errors import DataError

TREE = {
    "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}],
    "categories": [{"id": 1, "name": "car"}],
    "annotations": [],
}


def lay_out(root: Path, annotations: str, image: str, file_name: str = "a.png") -> None:
    for path in (root / annotations, root / image):
        path.parent.mkdir(parents=True, exist_ok=True)
    images = [TREE["images"][0] | {"file_name": file_name}]
    (root / annotations).write_text(json.dumps(TREE | {"images": images}))
    Image.new("RGB", (6, 4)).save(root / image)


@pytest.mark.parametrize(
    ("annotations", "image", "file_name"),
    [
        ("annotations/instances_val2017.json", "val2017/a.png", "a.png"),
        ("annotations/instances_val2017.json", "images/val2017/a.png", "a.png"),
        ("val/_annotations.coco.json", "val/a.png", "a.png"),
        ("valid/_annotations.coco.json", "valid/a.png", "a.png"),
        ("annotations/val.json", "images/a.png", "a.png"),
        ("annotations/val.json", "images/val/a.png", "a.png"),
        ("annotations/val.json", "images/val/a.png", "val/a.png"),
        ("annotations/valid.json", "val/a.png", "val/a.png"),
        ("annotations/instances_val.json", "images/val/a.png", "images/val/a.png"),
    ],
)
def test_known_layouts_are_opened(tmp_path: Path, annotations: str, image: str, file_name: str):
    """By the folder, or by the JSON file in it."""
    lay_out(tmp_path, annotations, image, file_name)
    (tmp_path / "images").mkdir(exist_ok=True)
    assert open_dataset(tmp_path, "val").path(0) == tmp_path / image
    assert open_dataset(str(tmp_path / annotations), "ignored").path(0) == tmp_path / image


def test_a_json_beside_its_images_is_opened(tmp_path: Path):
    lay_out(tmp_path, "mine.json", "a.png")
    assert open_dataset(tmp_path / "mine.json", "train").path(0) == tmp_path / "a.png"


def test_an_unknown_split_raises_an_error_with_what_was_found(tmp_path: Path):
    lay_out(tmp_path, "annotations/train.json", "images/a.png")
    with pytest.raises(DataError, match=r"no split 'test' .*annotations/train\.json"):
        open_dataset(tmp_path, "test")
    with pytest.raises(DataError, match=r"looked for COCO.*found a\.png \(1 image\)"):
        open_dataset(tmp_path / "images", "train")
    with pytest.raises(DataError, match="no such file or folder"):
        open_dataset(tmp_path / "nowhere", "train")


def test_missing_images_are_counted_on_opening(tmp_path: Path):
    lay_out(tmp_path, "annotations/train.json", "images/b.png")
    with pytest.raises(DataError, match=r"images: 1 of 1 image files are missing: a\.png"):
        open_dataset(tmp_path, "train")


def test_a_large_data_set_takes_little_memory():
    """118,000 images and 860,000 boxes take well under 200 MB, linear in their number."""
    small = generated(1_180, 8_600)
    assert 100 * small.nbytes < 80e6
    assert generated(11_800, 86_000).nbytes == pytest.approx(10 * small.nbytes, rel=0.01)
    assert len(pickle.dumps(small)) < small.nbytes + 4000


def test_a_target_holds_only_its_own_rows():
    dataset = generated(1_000, 5_000)
    targets = [dataset.target(image) for image in range(1_000)]
    assert sum(map(len, targets)) == 5_000
    assert all(target.cxcywh.untyped_storage().nbytes() <= 16 * 5 * 4 for target in targets)


@pytest.mark.parametrize("text", ["", "{", '{"images": [{]'])
def test_a_broken_annotation_file_raises_an_error(tmp_path: Path, text: str):
    """If it were ignored, part of the other split would silently be trained on."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    whole = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "annotations/val.json").write_text(json.dumps(whole))
    (tmp_path / "annotations/train.json").write_text(text)
    with pytest.raises(DataError, match=r"train\.json"):
        open_dataset(tmp_path, "train")
