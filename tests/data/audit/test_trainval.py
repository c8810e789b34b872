"""trainval is train and val by VOC's own definition: no leak, and nothing to count twice."""

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
    """Write an image for every letter of the lists, and the lists."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, letter in enumerate(sorted(set("".join(lists.values())))):
        picture = Image.linear_gradient("L").rotate(17 * number).resize((60, 40))
        picture.save(root / f"JPEGImages/{letter}.png")
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
def test_a_union_is_counted_once(tmp_path: Path, lists: dict[str, str]):
    """The survey passes, and adds up to the images that there are; the split can still be read."""
    found = audit(write(tmp_path, **lists), has_gpu=False)
    found.require_sound()
    assert "trainval" not in found.splits
    assert sum(map(len, found.splits.values())) == len(set("".join(lists.values())))
    (note,) = [each for each in found.findings if each.split == "trainval"]
    assert (note.severity, note.value) == ("note", "6 of its 6 images")
    assert len(open_dataset(tmp_path, "trainval")) == 6


def test_what_a_union_shares_with_test_is_a_leak(tmp_path: Path):
    """Whoever learns from trainval would be measured on what it has seen."""
    lists = {"train": "abcd", "val": "ef", "trainval": "abcdefg", "test": "gh"}
    found = audit(write(tmp_path, **lists), has_gpu=False)
    (leak,) = [each for each in found.findings if each.severity == "mend"]
    assert leak.what == "the same image file in two splits"
    assert (leak.split, leak.file, leak.value) == ("trainval", "g.png", "also in test")


def test_splits_that_share_images_still_leak(tmp_path: Path):
    """The definition excuses trainval alone."""
    lists = {"train": "abcd", "val": "def", "trainval": "abcdef", "test": "gh"}
    found = audit(write(tmp_path, **lists), has_gpu=False)
    leaks = [each for each in found.findings if each.severity == "mend"]
    assert [(leak.split, leak.file) for leak in leaks] == [("val", "d.png")]
