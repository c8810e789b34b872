"""Images that were converted after they were annotated are found, and masks are never taken."""

import json
from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.audit.fix import fix_coco
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.other_suffixes import OTHER_SUFFIX
from setmatch.data.open import open_dataset
from setmatch.errors import DataError

STEMS = ("a", "b.v2", "c d")


def _images(folder: Path, suffix: str, stems: tuple[str, ...] = STEMS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        Image.new("RGB", (60, 40)).save(folder / f"{stem}{suffix}")


def _coco(root: Path, names: list[str]) -> Path:
    tree = {
        "images": [
            {"id": i, "file_name": n, "width": 60, "height": 40} for i, n in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [i, 2, 9, 9], "area": 81}
            for i in range(len(names))
        ],
    }
    (root / "all.json").write_text(json.dumps(tree))
    return root / "all.json"


def _yolo(root: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        label = (root / name.replace("images/", "labels/")).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"0 0.5 0.5 0.{number + 1} 0.5\n")
    (root / "list.txt").write_text("\n".join(names))
    (root / "data.yaml").write_text("train: list.txt\nval: list.txt\nnames: [cat]\n")
    return root / "data.yaml"


def _found(dataset: DetectionDataset) -> dict[str, float]:
    return {
        dataset.path(image).name: dataset.xywh_px[dataset.rows(image)[0]].tolist()[0]
        for image in range(len(dataset))
    }


@pytest.mark.parametrize(("old", "new"), [(".jpg", ".png"), (".PNG", ".jpg"), (".tif", ".webp")])
@pytest.mark.parametrize("before", ["", "images/", "D:\\photos\\"])
def test_converted_images_are_found_by_coco(tmp_path: Path, old: str, new: str, before: str):
    _images(tmp_path / "images", new)
    path = _coco(tmp_path, [f"{before}{stem}{old}" for stem in STEMS])
    dataset = open_dataset(path, "train")
    assert _found(dataset) == {f"{stem}{new}": float(i) for i, stem in enumerate(STEMS)}
    assert dataset.fix_counts[OTHER_SUFFIX] == 1
    fixed, _ = fix_coco(json.loads(path.read_text()), dataset, tmp_path)
    path.write_text(json.dumps(fixed))
    assert OTHER_SUFFIX not in open_dataset(path, "train").fix_counts


@pytest.mark.parametrize("before", ["images/", "./images/", "/content/set/images/"])
def test_converted_images_are_found_by_a_list_of_yolo(tmp_path: Path, before: str):
    _images(tmp_path / "images", ".png")
    path = _yolo(tmp_path, [f"images/{stem}.jpg" for stem in STEMS])
    (tmp_path / "list.txt").write_text("\n".join(f"{before}{stem}.jpg" for stem in STEMS))
    dataset = open_dataset(path, "train")
    names = [dataset.path(image).name for image in range(len(dataset))]
    assert names == [f"{stem}.png" for stem in STEMS]
    sides = [round(dataset.xywh_px[dataset.rows(i)[0]].tolist()[2], 3) for i in range(len(dataset))]
    assert sides == [6, 12, 18]


def test_a_single_missing_photograph_does_not_become_the_mask_beside_it(tmp_path: Path):
    stems = tuple(map(str, range(30)))
    _images(tmp_path / "images", ".jpg", stems[1:])
    _images(tmp_path / "images", ".png", stems)
    dataset = open_dataset(_coco(tmp_path, [f"{stem}.jpg" for stem in stems]), "train")
    assert all(name.endswith(".jpg") for name in dataset.file_names())
    assert "0.png" not in dataset.file_names()


REFUSED = {
    "masks elsewhere": lambda root: _images(root / "masks", ".png"),
    "two formats": lambda root: [_images(root / "images", each) for each in (".png", ".webp")],
    "one is missing": lambda root: _images(root / "images", ".png", STEMS[1:]),
    "another end": lambda root: _images(root / "images", "_mask.png"),
}


@pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED)
def test_where_it_is_not_clear_the_images_are_missing(tmp_path: Path, write):
    write(tmp_path)
    with pytest.raises(DataError, match="3 of 3 image files are missing"):
        open_dataset(_coco(tmp_path, [f"{stem}.jpg" for stem in STEMS]), "train")


def test_two_names_of_one_converted_file_are_missing(tmp_path: Path):
    _images(tmp_path / "images", ".png", ("a",))
    with pytest.raises(DataError, match="2 of 2 image files are missing"):
        open_dataset(_coco(tmp_path, ["a.jpg", "a.tif"]), "train")


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path):
    _images(tmp_path / "outside", ".png")
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/images/inner").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="3 of 3 image files are missing"):
        open_dataset(_coco(tmp_path / "set", [f"inner/{stem}.jpg" for stem in STEMS]), "train")
