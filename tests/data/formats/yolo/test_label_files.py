"""YOLO: label files are found under the names that tools and systems give them."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.dataset import DetectionDataset
from setmatch.data.discovery import discover_splits
from setmatch.data.formats.yolo.find import find_yolo, read_split
from setmatch.data.formats.yolo.label_files import label_files
from setmatch.data.open import open_dataset
from setmatch.errors import DataError

STEM = "Größe 7.b"
WAYS: dict[str, Callable[[str], str]] = {
    "suffix kept": lambda name: f"{name}.txt",
    "suffix kept, capitals": lambda name: f"{name}.TXT",
    "suffix in other capitals": lambda name: f"{name.removesuffix('.png')}.PNG.txt",
    "other capitals": lambda name: f"{name.removesuffix('.png').upper()}.txt",
    "macOS": lambda name: f"{unicodedata.normalize('NFD', name.removesuffix('.png'))}.txt",
    "macOS, suffix kept": lambda name: f"{unicodedata.normalize('NFD', name)}.txt",
}
LAYOUTS = {
    "images/ and labels/": ("images", "labels"),
    "train/images": ("train/images", "train/labels"),
    "images/train": ("images/train", "labels/train"),
    "beside": ("train", "train"),
    "alone": (".", "."),
}


def write(root: Path, places: tuple[str, str], way: Callable[[str], str]) -> Path:
    """Write three images, each with a box at a place of its own."""
    for place in places:
        (root / place).mkdir(parents=True, exist_ok=True)
    for number in range(3):
        name = f"{STEM}{number}.png"
        Image.new("RGB", (60, 40)).save(root / places[0] / name)
        (root / places[1] / way(name)).write_text(f"{number} 0.{number + 3} 0.5 0.1 0.1\n")
    return root


def boxes(dataset: DetectionDataset) -> dict[str, tuple[int, float]]:
    """Return class and center x, in pixels, of the only box of each image."""
    found = {}
    for image in range(len(dataset)):
        (row,) = dataset.rows(image)
        x, _, w, _ = dataset.xywh_px[row].tolist()
        found[dataset.path(image).name] = int(dataset.class_indices[row]), round(x + w / 2, 3)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_are_found_under_names_of_tools_and_systems(tmp_path: Path, layout: str, way: str):
    """Before, such images were read as images without objects."""
    (split,) = find_yolo(write(tmp_path, LAYOUTS[layout], WAYS[way])).values()
    dataset = read_split(split)
    assert boxes(dataset) == {
        f"{STEM}{number}.png": (number, 18 + 6 * number) for number in range(3)
    }
    said = [fix for fix in dataset.fixes if "named otherwise" in fix.description]
    assert len(said) == 1
    assert "3 of 3 images" in said[0].value
    assert not any("without an image" in fix.description for fix in dataset.fixes)


OTHER_LAYOUTS = {
    "capitals": ("Images", "Labels"),
    "all capitals": ("IMAGES/TRAIN", "LABELS/TRAIN"),
    "batches": ("images/batch 1", "labels/batch 1"),
    "deep batches": ("images/a/b", "labels/a/b"),
    "annotations": ("images", "annotations"),
    "txt": ("imgs", "txt"),
    "splits in annotations": ("images/train", "annotations/train"),
    "a word of a name": ("Train_Images", "Train_Labels"),
    "archives in archives": ("archive/set/set v2/images", "archive/set/set v2/labels"),
}


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
@pytest.mark.parametrize("way", ["labels as usual", "suffix kept"])
def test_folders_of_labels_may_be_called_otherwise(tmp_path: Path, layout: str, way: str):
    naming = WAYS.get(way, lambda name: f"{name.removesuffix('.png')}.txt")
    splits = discover_splits(write(tmp_path, OTHER_LAYOUTS[layout], naming))
    (split,) = splits.values()
    assert boxes(read_split(split)) == {
        f"{STEM}{number}.png": (number, 18 + 6 * number) for number in range(3)
    }


@pytest.mark.parametrize(
    "row",
    [
        "684,8,273,116,1,4,0,0",  # VisDrone: x, y, width, height, score, class, ...
        "10,20,50,20,50,40,10,40,word",  # ICDAR
        "10 20 50 20 50 40 10 40 plane 0",  # DOTA
        "Car 0.00 0 -10 10 20 50 40 -1 -1 -1 -1000 -1000 -1000 -10",  # KITTI
        "10 20 50 40",
    ],
)
@pytest.mark.parametrize("folder", ["annotations", "labels", "gt"])
def test_text_files_of_other_formats_are_refused(tmp_path: Path, row: str, folder: str):
    write(tmp_path, ("images", folder), WAYS["suffix kept"])
    for path in (tmp_path / folder).iterdir():
        path.write_text(f"{row}\n" * 3)
    with pytest.raises(DataError):
        open_dataset(tmp_path, "train").require_sound_boxes()


@pytest.mark.parametrize(
    ("images", "texts", "found"),
    [
        (["a.jpg"], ["a.txt", "a.jpg.txt"], {"a.jpg": "a.txt"}),
        (["a.jpg", "a.jpg.png"], ["a.jpg.txt"], {"a.jpg.png": "a.jpg.txt"}),
        (["a.jpg", "a.png"], ["a.txt"], {"a.jpg": "a.txt", "a.png": "a.txt"}),
        (
            ["a.jpg", "a.png"],
            ["a.png.txt", "a.jpg.txt"],
            {"a.jpg": "a.jpg.txt", "a.png": "a.png.txt"},
        ),
        (["a.jpg", "A.jpg"], ["a.txt"], {"a.jpg": "a.txt"}),  # A.jpg has none: it is a.jpg's
        (["Aa.jpg", "aA.jpg"], ["aa.txt"], {}),  # of either
        (["aa.jpg"], ["aA.txt", "Aa.txt"], {}),
        (["b.jpg"], ["a.txt", "bb.txt"], {}),
    ],
)
def test_no_label_file_is_given_to_an_image_that_may_not_be_meant(
    images: list[str], texts: list[str], found: dict[str, str]
):
    """The exact name comes first, and what may mean several files means none."""
    assert label_files(images, texts) == found


@pytest.mark.parametrize("class_index", [10_000, 10**6, 2**31 - 1])
def test_a_huge_class_number_without_names_is_refused_at_once(tmp_path: Path, class_index: int):
    """Names for all numbers below would fill the memory."""
    root = write(tmp_path, ("images", "labels"), WAYS["suffix kept"])
    next((root / "labels").iterdir()).write_text(f"{class_index} 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=f"no classes.txt, and class {class_index}; list"):
        open_dataset(root, "train")


HASHES = ("abcd1234", "0f9e8d7c", "12345678")


@pytest.mark.parametrize("hashed", ["images", "labels"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_are_found_under_names_of_uploads(tmp_path: Path, layout: str, hashed: str):
    """Label Studio puts eight digits before the name, and changes blanks and other signs."""
    places = LAYOUTS[layout]
    write(tmp_path, places, lambda name: f"{name}.txt")
    place, suffix = (places[0], "png") if hashed == "images" else (places[1], "txt")
    for number, digits in enumerate(HASHES):
        name = f"{STEM}{number}.png"
        (tmp_path / places[1] / f"{name}.txt").rename(tmp_path / places[1] / f"{STEM}{number}.txt")
        uploaded = f"{digits}-{STEM.replace(' ', '_')}{number}.{suffix}"
        (tmp_path / place / f"{STEM}{number}.{suffix}").rename(tmp_path / place / uploaded)
    (split,) = find_yolo(tmp_path).values()
    found = boxes(read_split(split))
    assert [found[name] for name in sorted(found, key=lambda name: name[-5])] == [
        (number, 6.0 * (number + 3)) for number in range(3)
    ]


@pytest.mark.parametrize(
    ("images", "texts"),
    [
        (["abcd1234-a.png", "99887766-a.png"], ["a.txt"]),
        (["a.png"], ["abcd1234-a.txt", "99887766-a.txt"]),
        (["20240131-a.png"], ["a.txt"]),
        (["abcd1234-a.png"], ["99887766-a.txt"]),
        (["abcd123-a.png"], ["a.txt"]),
    ],
    ids=["two images", "two texts", "a date", "two uploads", "seven digits"],
)
def test_names_of_uploads_that_mean_nothing_certain_are_not_matched(
    images: list[str], texts: list[str]
):
    assert label_files(images, texts) == {}


def test_a_label_file_of_the_same_name_is_no_upload(tmp_path: Path):
    found = label_files(["a.png", "abcd1234-a.png"], ["a.txt", "abcd1234-a.txt"])
    assert found == {"a.png": "a.txt", "abcd1234-a.png": "abcd1234-a.txt"}
    assert label_files(["a.png", "abcd1234-a.png"], ["a.txt"]) == {"a.png": "a.txt"}
