"""Images are found if Label Studio has changed the name of the file, or that in the annotations."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.open import open_dataset, open_splits
from setmatch.errors import DataError
from small_voc import xml

NAMES = ("photo 1.png", "my (2).png", "c-3.png", "größe.png")
UPLOADED = ("abcd1234-photo_1.png", "0f9e8d7c-my_2.png", "12345678-c-3.png", "deadbeef-größe.png")
PATHS: dict[str, Callable[[str], str]] = {
    "bare": lambda name: name,
    "images/": lambda name: f"images/{name}",
    "of Windows": lambda name: f"..\\..\\label-studio\\media\\upload\\4\\{name}",
    "of local files": lambda name: f"/data/local-files/?d=images/{name}",
    "of the server": lambda name: f"https://labels.example.org/data/upload/4/{name}",
}


def write_images(root: Path, names: tuple[str, ...]) -> None:
    (root / "images").mkdir()
    for number, name in enumerate(names):
        Image.new("RGB", (60, 40), (number, 0, 0)).save(root / "images" / name)


def write_coco(root: Path, names: list[str]) -> None:
    images = [
        {"id": i, "file_name": name, "height": 40, "width": 60} for i, name in enumerate(names)
    ]
    annotations = [
        {"id": i, "image_id": i, "category_id": 0, "bbox": [i, 3, 20, 10], "area": 1, "iscrowd": 0}
        for i in range(len(names))
    ]
    tree = {"images": images, "annotations": annotations, "categories": [{"id": 0, "name": "cat"}]}
    (root / "result.json").write_text(json.dumps(tree))


def lefts(root: Path) -> dict[str, float]:
    """Return the left edge of the only box of each image, by the file's name."""
    found = {}
    for dataset in open_splits(root).datasets.values():
        for image, name in enumerate(dataset.file_names()):
            (row,) = dataset.rows(image)
            found[Path(name).name] = float(dataset.xywh_px[row, 0])
    return found


@pytest.mark.crossed
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("hashed", ["images", "annotations"])
def test_coco_files_name_uploads_or_their_originals(tmp_path: Path, path: str, hashed: str):
    files, names = (UPLOADED, NAMES) if hashed == "images" else (NAMES, UPLOADED)
    write_images(tmp_path, files)
    write_coco(tmp_path, [PATHS[path](name) for name in names])
    assert lefts(tmp_path) == dict(zip(files, np.arange(4.0), strict=True))
    fixes = open_dataset(tmp_path, "train").fix_counts
    assert any("Label Studio" in each for each in fixes)


@pytest.mark.parametrize("hashed", ["images", "annotations"])
def test_voc_files_name_uploads_or_their_originals(tmp_path: Path, hashed: str):
    files, names = (UPLOADED, NAMES) if hashed == "images" else (NAMES, UPLOADED)
    write_images(tmp_path, files)
    (tmp_path / "Annotations").mkdir()
    for number, name in enumerate(names):
        stem = name.removesuffix(".png")
        inner = f"<name>cat</name><bndbox><xmin>{number}</xmin><ymin>3</ymin><xmax>30</xmax>"
        text = xml(f"<object>{inner}<ymax>20</ymax></bndbox></object>", filename=stem)
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(text)
    assert lefts(tmp_path) == dict(zip(files, np.arange(4.0), strict=True))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("a.png",), ["abcd1234-a.png", "0f9e8d7c-a.png"]),
        (("abcd1234-a.png", "0f9e8d7c-a.png"), ["a.png"]),
        (("a.png",), ["20240131-a.png"]),
        (("abcd1234-a.png",), ["0f9e8d7c-a.png"]),
        (("abcd1234-a.jpg",), ["a.png"]),
    ],
    ids=["two names", "two files", "a date", "two uploads", "another suffix"],
)
def test_what_may_be_another_photograph_is_missing(
    tmp_path: Path, files: tuple[str, ...], names: list[str]
):
    write_images(tmp_path, files)
    write_coco(tmp_path, names)
    with pytest.raises(DataError):
        open_dataset(tmp_path, "train")


def test_an_upload_beside_the_image_itself_is_not_taken(tmp_path: Path):
    write_images(tmp_path, ("a.png", "abcd1234-a.png", "b.png"))
    write_coco(tmp_path, ["a.png", "b.png"])
    assert lefts(tmp_path) == {"a.png": 0.0, "b.png": 1.0}
