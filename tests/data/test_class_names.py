"""Class names have no blanks at their ends, in any format; names that look alike are found."""

import json
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.class_names import clean_name
from setmatch.data.open import open_dataset
from setmatch.errors import DataError, quoted
from small_voc import box, xml

BLANKS = [
    " {}",
    "{} ",
    "\t{}",
    "{}\r",
    "\u00a0{}\u00a0",
    "\u3000{}",
    "\u200b{}",
    "{}\ufeff",
    " \u200b {}",
]


LISTS = ("classes.txt", "labels.txt", "obj.names", "classes.names")


def two_lists(root: Path, one: list[str], other: list[str], files: tuple[str, str]) -> Path:
    """Write YOLO labels of class 1 beside two lists of classes."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    Image.new("RGB", (60, 40)).save(root / "images/a.png")
    (root / "labels/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    for file, names in zip(files, (one, other), strict=True):
        (root / file).write_text("\n".join(names))
    return root


@pytest.mark.parametrize("files", list(combinations(LISTS, 2)))
def test_of_two_lists_in_a_folder_the_longer_counts(tmp_path: Path, files: tuple[str, str]):
    for place, lists in (("1", (["a", "b"], ["a", "b", "c"])), ("2", (["a", "b", "c"], ["a"]))):
        root = two_lists(tmp_path / place, *lists, files)
        assert open_dataset(root, "train").categories.names == ("a", "b", "c")


@pytest.mark.parametrize("files", list(combinations(LISTS, 2)))
@pytest.mark.parametrize("other", [["b", "a"], ["a", "x", "c"], ["x"]])
def test_lists_in_a_folder_that_differ_are_refused(tmp_path: Path, files, other: list[str]):
    """The same number would be two classes; each is named with its file."""
    root = two_lists(tmp_path / "set", ["a", "b"], other, files)
    with pytest.raises(DataError, match="number the classes alike, or remove the wrong") as refused:
        open_dataset(root, "train")
    assert all(file in str(refused.value) for file in files)


def write_set(root: Path, format: str, names: list[str]) -> Path:
    """Write a data set in which image i shows an object of class i."""
    for number, name in enumerate(names):
        folder = root / "images"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (number, 0, 0)).save(folder / f"{number}.png")
        if format == "voc":
            (root / "Annotations").mkdir(exist_ok=True)
            text = xml(box(6, 4, 36, 24, name=name), filename=f"{number}.png")
            (root / f"Annotations/{number}.xml").write_text(text, encoding="utf-8")
        if format in ("yolo", "classes.txt"):
            (root / "labels").mkdir(exist_ok=True)
            (root / f"labels/{number}.txt").write_text(f"{number} .5 .5 .5 .5\n")
    if format == "coco":
        tree = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "height": 40, "width": 60}
                for i in range(len(names))
            ],
            "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": i, "bbox": [6, 4, 30, 20]}
                | {"area": 600, "iscrowd": 0}
                for i in range(len(names))
            ],
        }
        (root / "train.json").write_text(json.dumps(tree))
    if format == "yolo":
        (root / "data.yaml").write_text(json.dumps({"names": names, "train": "images"}))
    if format == "classes.txt":
        (root / "classes.txt").write_text("\n".join(names), encoding="utf-8", newline="")
    return root


def classes_of(dataset: DetectionDataset) -> set[str]:
    return {dataset.categories.name(index) for index in dataset.class_indices.tolist()}


@pytest.mark.crossed
@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "classes.txt"])
def test_blanks_at_the_ends_of_a_class_name_are_removed(tmp_path: Path, format: str, blank: str):
    if format == "classes.txt" and blank.endswith("\r"):
        blank = "{} \t"  # the end of a line there
    names = ["traffic light", blank.format("dog"), "Ärger"]
    dataset = open_dataset(write_set(tmp_path, format, names), "train")
    assert set(dataset.categories.names) == {"traffic light", "dog", "Ärger"}
    assert classes_of(dataset) <= {"traffic light", "dog", "Ärger"}


@pytest.mark.parametrize("format", ["coco", "yolo"])
def test_a_class_name_of_blanks_is_refused(tmp_path: Path, format: str):
    with pytest.raises(DataError, match="name"):
        open_dataset(write_set(tmp_path, format, ["dog", " \u200b"]), "train")


def test_two_names_that_become_one_are_told_apart_or_refused(tmp_path: Path):
    names = ["dog", "dog "]
    coco = open_dataset(write_set(tmp_path / "coco", "coco", names), "train")
    assert coco.categories.names == ("dog", "dog (2)")
    for format in ("yolo", "classes.txt"):
        with pytest.raises(DataError, match=r"'dog'.* twice"):
            open_dataset(write_set(tmp_path / format, format, names), "train")


@pytest.mark.crossed
@pytest.mark.parametrize("other", ["Dog", "DOG", "d og", "do\u00a0g"])
@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "classes.txt"])
def test_names_that_differ_only_in_case_or_blanks_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str, other: str
):
    """They are shown in quotes."""
    root = write_set(tmp_path, format, ["dog", other, "cat", "cats"])
    main(["audit", str(root), "--json", str(tmp_path / "audit.json")])
    findings = json.loads((tmp_path / "audit.json").read_text())["findings"]
    (found,) = [each for each in findings if "only in case or blanks" in each["kind"]]
    assert repr("dog") in found["value"]
    assert repr(other) in found["value"]
    assert "cat" not in found["value"]
    assert "only in case or blanks" in " ".join(capsys.readouterr().out.split())


def test_names_that_differ_between_splits_are_found(tmp_path: Path):
    root = write_set(tmp_path, "coco", ["dog", "cat"])
    text = (root / "train.json").read_text()
    (root / "val.json").write_text(text.replace('"dog"', '"Dog"'))
    main(["audit", str(root), "--json", str(tmp_path / "audit.json")])
    findings = json.loads((tmp_path / "audit.json").read_text())["findings"]
    (found,) = [each for each in findings if "only in case or blanks" in each["kind"]]
    assert found["value"] == "'dog' in train, 'Dog' in val"


def test_clean_name_keeps_what_is_visible():
    assert clean_name("  a b\u200b c \ufeff ") == "a b\u200b c"
    assert clean_name("") == clean_name(" \t\u200b") == ""


def test_quoted_names_are_cut():
    assert quoted(["a ", "b"], 2) == "'a ', 'b'"
    assert quoted(["a", None, "c", "d"], 2) == "'a', None and 2 more"
