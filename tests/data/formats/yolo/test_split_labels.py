"""YOLO: images in one folder, whose labels are divided into folders of splits."""

from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.discovery import discover_splits
from setmatch.data.open import open_dataset, open_splits

IMAGES = ("images", "JPEGImages", "data", ".")
LABELS = ("labels/{}", "annotations/{}", "{}_labels", "labels-{}")
WORDS = (("train", "val"), ("training", "validation"), ("Train", "Valid", "Test"))
NAMES = "names: [cat, dog]\n"


def write(root: Path, images: str, labels: str, words: tuple[str, ...]) -> Path:
    """Write two images for each split, of a color of their own, each with a box at its place."""
    (root / images).mkdir(parents=True, exist_ok=True)
    for number, (word, _) in enumerate(product(words, range(2))):
        Image.new("RGB", (60, 40), (number, 0, 0)).save(root / images / f"{number}.png")
        place = root / labels.format(word)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.txt").write_text(f"{number % 2} 0.{number + 1} 0.5 0.1 0.1\n")
    return root


def check(root: Path, count: int) -> None:
    for position, split in enumerate(("train", "val", "test")[:count]):
        dataset = open_dataset(root, split)
        expected = [2 * position, 2 * position + 1]
        assert [Path(name).stem for name in dataset.file_names()] == [str(n) for n in expected]
        centers = dataset.xywh_px[:, 0] + dataset.xywh_px[:, 2] / 2
        assert centers.round(3).tolist() == [6.0 * (number + 1) for number in expected]
        names = [dataset.categories.names[number] for number in dataset.class_indices]
        assert names == ["cat", "dog"]


@pytest.mark.crossed
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_labels_divide_images_of_one_folder(
    tmp_path: Path, images: str, labels: str, words: tuple[str, ...]
):
    root = write(tmp_path, images, labels, words)
    (root / "classes.txt").write_text("cat\ndog\n")
    check(root, len(words))


@pytest.mark.parametrize("images", ["images", "."])
def test_a_yaml_file_of_folders_that_do_not_exist_names_the_classes(tmp_path: Path, images: str):
    root = write(tmp_path, images, "labels/{}", ("train", "val"))
    (root / "data.yaml").write_text(f"{NAMES}train: images/train\nval: images/val\n")
    check(root, 2)


def test_images_without_a_label_file_belong_to_no_split(tmp_path: Path):
    """Nothing says in which of the splits they are images without objects."""
    root = write(tmp_path, "images", "labels/{}", ("train", "val"))
    (root / "classes.txt").write_text("cat\ndog\n")
    Image.new("RGB", (60, 40), (99, 0, 0)).save(root / "images" / "z.png")
    check(root, 2)
    notes = open_splits(root).datasets["train"].notes
    assert "1 image without a label file in no split: left out" in notes


def test_images_that_are_divided_too_are_read_as_before(tmp_path: Path):
    """A leftover copy of all images beside them changes nothing."""
    root = write(tmp_path, "images", "labels/{}", ("train", "val"))
    (root / "classes.txt").write_text("cat\ndog\n")
    for split, numbers in (("train", (0, 1)), ("val", (2, 3))):
        (root / "images" / split).mkdir()
        for number in numbers:
            name = f"{number}.png"
            (root / "images" / name).rename(root / "images" / split / name)
    check(root, 2)
    assert {split.details.labels for split in discover_splits(root).values()} == {None}
