"""trainval is train and val together, as VOC defines it: not a leak, and not counted twice."""

from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.audit.audit import audit
from setmatch.data.open import open_dataset

XML = (
    "<annotation><size><width>60</width><height>40</height></size><object><name>dog</name><bndbox>"
    "<xmin>6</xmin><ymin>4</ymin><xmax>36</xmax><ymax>24</ymax></bndbox></object></annotation>"
)


def write(root: Path, **lists: str) -> Path:
    """Write a VOC data set with an image for each letter of the lists."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, letter in enumerate(sorted(set("".join(lists.values())))):
        image = Image.linear_gradient("L").rotate(17 * number).resize((60, 40))
        image.save(root / f"JPEGImages/{letter}.png")
        (root / f"Annotations/{letter}.xml").write_text(XML)
    for split, letters in lists.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(letters))
    return root


@pytest.mark.parametrize(
    "lists",
    [
        {"train": "abcd", "val": "ef", "trainval": "abcdef", "test": "gh"},
        {"train": "abcd", "val": "ef", "trainval": "abcdef"},
        {"trainval": "abcdef", "test": "gh"},
    ],
    ids=["four lists", "three lists", "trainval alone"],
)
def test_images_of_trainval_are_counted_once(tmp_path: Path, lists: dict[str, str]):
    """The split can still be opened by its name."""
    result = audit(write(tmp_path, **lists), has_gpu=False)
    result.require_no_errors()
    assert "trainval" not in result.splits
    assert sum(map(len, result.splits.values())) == len(set("".join(lists.values())))
    (note,) = [each for each in result.findings if each.split == "trainval"]
    assert (note.severity, note.value) == ("note", "6 of its 6 images")
    assert len(open_dataset(tmp_path, "trainval")) == 6


def test_an_image_in_trainval_and_test_is_a_leak(tmp_path: Path):
    lists = {"train": "abcd", "val": "ef", "trainval": "abcdefg", "test": "gh"}
    result = audit(write(tmp_path, **lists), has_gpu=False)
    (leak,) = [each for each in result.findings if each.severity == "error"]
    assert leak.kind == "the same image file in two splits"
    assert (leak.split, leak.file, leak.value) == ("trainval", "g.png", "also in test")


def test_an_image_in_train_and_val_is_a_leak_despite_trainval(tmp_path: Path):
    lists = {"train": "abcd", "val": "def", "trainval": "abcdef", "test": "gh"}
    result = audit(write(tmp_path, **lists), has_gpu=False)
    leaks = [each for each in result.findings if each.severity == "error"]
    assert [(leak.split, leak.file) for leak in leaks] == [("val", "d.png")]
