"""Several COCO files are read as one data set only where no object can be in two of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.discovery import discover_dataset
from setmatch.data.open import open_dataset, open_splits
from setmatch.errors import DataError

CLASSES = ("cat", "dog", "bird")
NAMES = [f"{number}.png" for number in range(6)]
PLACES = ("annotations", "labels", ".", "annotations/train", "train")


def box(image: int, class_: int) -> list[float]:
    return [image + 1.0, 2.0 * class_, 10.0, 8.0]


def tree(objects: Mapping[int, list[int]], ids: Mapping[int, int], first: int = 0) -> dict:
    """Return a COCO file of images with objects of the classes given; `ids` are its categories."""
    images = [
        {"id": n, "file_name": NAMES[image], "height": 40, "width": 60}
        for n, image in enumerate(objects, start=first)
    ]
    pairs = [(n, image, c) for n, image in enumerate(objects, first) for c in objects[image]]
    annotations = [
        {"id": k, "image_id": n, "category_id": ids[c], "bbox": box(image, c), "area": 80}
        | {"iscrowd": 0, "segmentation": []}
        for k, (n, image, c) in enumerate(pairs)
    ]
    categories = [{"id": id_, "name": CLASSES[c]} for c, id_ in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(root: Path, place: str, trees: Mapping[str, dict], images: str = "images") -> Path:
    for number, name in enumerate(NAMES):
        (root / images).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (number, 0, 0)).save(root / images / name)
    (root / place).mkdir(parents=True, exist_ok=True)
    for stem, each in trees.items():
        (root / place / f"{stem}.json").write_text(json.dumps(each))
    return root


def found(root: Path, splits: set[str] = frozenset({"train", "val"})) -> dict[int, set[Any]]:
    """Return the class and box of each object, by image, of all splits."""
    opened = open_splits(root)
    assert opened.errors == {}
    assert set(opened.datasets) == splits
    objects: dict[int, set[Any]] = {}
    for dataset in opened.datasets.values():
        for image in range(len(dataset)):
            number = int(dataset.path(image).stem)
            assert number not in objects, "an image is read once"
            objects[number] = {
                (dataset.categories.names[dataset.class_indices[row]], *dataset.xywh_px[row])
                for row in dataset.rows(image)
            }
    return objects


def expected(objects: Mapping[int, list[int]]) -> dict[int, set[Any]]:
    return {image: {(CLASSES[c], *box(image, c)) for c in objects[image]} for image in objects}


ALL = {image: [c for c in range(3) if (image + c) % 2 == 0] for image in range(6)}


def of_class(class_: int, listed: str) -> dict[int, list[int]]:
    """Return the objects of one class; `listed` are all images, or those that show it."""
    own = {image: [c for c in ALL[image] if c == class_] for image in ALL}
    return {image: classes for image, classes in own.items() if classes or listed == "all"}


@pytest.mark.crossed
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("listed", ["all", "own"])
@pytest.mark.parametrize("ids", ["one each", "all alike", "all listed"])
@pytest.mark.parametrize("images", ["images", "."])
@pytest.mark.parametrize("stem", ["{}", "instances_{}", "{}_boxes"])
def test_a_file_for_each_class_is_a_part(
    tmp_path: Path, place: str, listed: str, ids: str, images: str, stem: str
):
    """Before, each was a split in which the objects of the others were missing."""
    trees = {}
    for c, name in enumerate(CLASSES):
        numbers = {
            "one each": {c: c + 7},
            "all alike": {c: 1},
            "all listed": {other: (other - c) % 3 for other in range(3)},
        }[ids]
        trees[stem.format(name)] = tree(of_class(c, listed), numbers)
    root = write(tmp_path, place, trees, images)
    splits = {"train", "val"}
    assert found(root, splits) == expected(ALL)
    (part,) = discover_dataset(root).parts.values()
    assert "is read from 3 files, whose objects are of other classes or images" in part.notes[0]


@pytest.mark.parametrize("place", ["annotations", "train"])
@pytest.mark.parametrize("stem", ["{}", "{}.png"])
def test_a_file_for_each_image_is_a_part(tmp_path: Path, place: str, stem: str):
    trees = {
        stem.format(image): tree({image: ALL[image]}, {0: 1, 1: 2, 2: 3}, first=1) for image in ALL
    }
    assert found(write(tmp_path, place, trees)) == expected(ALL)


@pytest.mark.parametrize("stem", ["batch{}", "part_{}_of_2", "task-{}"])
def test_files_of_other_images_that_differ_by_a_number_are_parts(tmp_path: Path, stem: str):
    halves = [{i: ALL[i] for i in range(3)}, {i: ALL[i] for i in range(3, 6)}]
    trees = {
        stem.format(k): tree(half, {0: 1, 1: 2, 2: 3}) for k, half in enumerate(halves, start=1)
    }
    assert found(write(tmp_path, "annotations", trees)) == expected(ALL)


@pytest.mark.parametrize("stems", [("fold1", "fold2"), ("minival", "rest"), ("day", "night")])
def test_files_of_other_images_may_be_a_division_and_are_not_merged(
    tmp_path: Path, stems: tuple[str, str]
):
    halves = [{i: ALL[i] for i in range(3)}, {i: ALL[i] for i in range(3, 6)}]
    trees = {stem: tree(half, {0: 1, 1: 2, 2: 3}) for stem, half in zip(stems, halves, strict=True)}
    assert found(write(tmp_path, "annotations", trees), set(stems)) == expected(ALL)


@pytest.mark.parametrize("stems", [("anna", "bob"), ("new1", "new2"), ("labels", "labels_old")])
def test_files_with_the_same_classes_in_the_same_images_are_not_merged(
    tmp_path: Path, stems: tuple[str, str]
):
    """Two people, or two versions: each object would count twice."""
    numbers = {0: 1, 1: 2, 2: 3}
    few = {image: ALL[image] for image in range(3)}
    root = write(
        tmp_path, "annotations", {stems[0]: tree(ALL, numbers), stems[1]: tree(few, numbers)}
    )
    assert set(discover_dataset(root).parts) == set(stems)
    with pytest.raises(DataError, match="no split 'train'"):
        open_dataset(root, "train")


def test_a_copy_is_read_once_and_said(tmp_path: Path):
    whole = tree(ALL, {0: 1, 1: 2, 2: 3})
    root = write(tmp_path, ".", {"annotations": whole, "annotations_backup": whole})
    assert found(root) == expected(ALL)
    (part,) = discover_dataset(root).parts.values()
    assert part.notes == (
        "the data set is read from annotations.json, not from annotations_backup.json",
    )


def test_splits_of_files_for_each_class_are_merged_one_by_one(tmp_path: Path):
    trees = {}
    for split, images in (("train", range(4)), ("val", range(4, 6))):
        for c, name in enumerate(CLASSES):
            own = {image: of_class(c, "all")[image] for image in images}
            trees[f"{split}_{name}"] = tree(own, {c: 1})
    root = write(tmp_path, "annotations", trees)
    assert found(root) == expected(ALL)
    assert len(open_dataset(root, "train")) == 4


def test_each_error_names_the_file_that_is_wrong(tmp_path: Path):
    trees = {name: tree(of_class(c, "all"), {c: 1}) for c, name in enumerate(CLASSES)}
    trees["dog"]["annotations"][1]["image_id"] = 77
    root = write(tmp_path, "annotations", trees)
    with pytest.raises(DataError, match=r"dog\.json: annotations\[1\] .*image_id 77 is none of"):
        open_dataset(root, "train")
    trees["dog"]["annotations"][1] |= {"image_id": 0, "bbox": "wide"}
    write(root, "annotations", trees)
    fixes = open_dataset(root, "train").fixes
    assert any("bbox 'wide'" in fix.value for fix in fixes)
    trees["dog"]["images"][2]["width"] = 61
    write(root, "annotations", trees)
    with pytest.raises(DataError, match=r"dog\.json: .*'2\.png' is 61×40, and 60×40 in bird\.json"):
        open_dataset(root, "train")


def test_the_audit_fixes_files_for_each_class_into_one(tmp_path: Path, capsys):
    trees = {name: tree(of_class(c, "all"), {c: 1}) for c, name in enumerate(CLASSES)}
    trees["cat"]["annotations"][0]["bbox"][2] = 500
    root = write(tmp_path / "data", "annotations", trees)
    main(["audit", str(root), "--fix", str(tmp_path / "fixed")])
    files = sorted(path.name for path in (tmp_path / "fixed").rglob("*.json"))
    assert files == ["all.json", "changes.json"]
    fixed = json.loads((tmp_path / "fixed/annotations/all.json").read_text())
    assert len(fixed["annotations"]) == sum(map(len, ALL.values()))
    assert {each["name"] for each in fixed["categories"]} == set(CLASSES)
