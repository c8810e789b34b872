"""Values of data.yaml and numbers of labels that no tool writes, found by fuzzing."""

from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.open import open_dataset
from setmatch.errors import DataError


def write_yolo(root: Path, train: str, label: str) -> Path:
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (40, 40)).save(root / f"images/train/{number}.png")
        (root / f"labels/train/{number}.txt").write_text(f"{label}\n")
    (root / "data.yaml").write_text(f"train: {train}\nval: {train}\nnames: [cat, dog]\n")
    return root


@pytest.mark.parametrize("repeats", [100, 5000])
def test_a_long_path_is_cut_in_the_message(tmp_path: Path, repeats: int):
    root = write_yolo(tmp_path, "images/absent" * repeats, "0 0.5 0.5 0.5 0.5")
    with pytest.raises(DataError, match="'train' is ") as error:
        open_dataset(root, "train")
    assert len(str(error.value)) < 8000


@pytest.mark.crossed
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", ["1e400", "-1e400", "nan"])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("keypoints", [2, 4, 7])
@pytest.mark.parametrize("config", ["", "kpt_shape: [9, 2]\n"])
def test_rows_that_are_not_finite_are_no_keypoints(tmp_path, value, place, keypoints, config):
    numbers = ["0.5"] * (4 + 2 * keypoints)
    numbers[place] = numbers[4 + place % 2] = value  # infinity less infinity is no number
    root = write_yolo(tmp_path, "images/train", " ".join(["0", *numbers]))
    with (tmp_path / "data.yaml").open("a") as file:
        file.write(config)
    with suppress(DataError):  # but no warning of numpy
        open_dataset(root, "train")


NAMES = {
    "a list": "[cat, dog]",
    "numbers": "{0: cat, 1: dog}",
    "in another order": "{1: dog, 0: cat}",
    "texts": "{'0': cat, '1': dog}",
    "both": "{'1': dog, 0: cat}",
    "padded": "{'00': cat, ' 1': dog}",
}


@pytest.mark.crossed
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("count", ["2", "'2'", "2.0"])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_class_names_may_be_numbered_in_any_notation(tmp_path, names, count, encoding):
    """In files of UTF-16 too, as PowerShell writes them; labels as well."""
    root = write_yolo(tmp_path, "images/train", "1 0.5 0.5 0.25 0.5")
    text = f"train: images/train\nval: images/train\nnc: {count}\nnames: {names}\n"
    (root / "data.yaml").write_bytes(text.encode(encoding))
    for label in (root / "labels/train").iterdir():
        label.write_bytes(label.read_text().encode(encoding))
    dataset = open_dataset(root, "train")
    assert dataset.categories.names == ("cat", "dog")
    assert dataset.class_indices.tolist() == [1] * 4
    assert dataset.xywh_px.tolist() == [[15, 10, 10, 20]] * 4
    assert dataset.fixes == ()


@pytest.mark.parametrize(
    "names",
    [
        *("{0: cat, '0': dog}", "{1: cat, 3: dog}", "{1: cat, '1': dog}", "{0: cat, 2: dog}"),
        *("{a: cat, b: dog}", "{'-1': cat, '0': dog}", "{'0.0': cat, '1.0': dog}", "{'١': cat}"),
    ],
)
def test_other_numbers_of_classes_are_refused(tmp_path: Path, names: str):
    root = write_yolo(tmp_path, "images/train", "0 0.5 0.5 0.25 0.5")
    (root / "data.yaml").write_text(f"train: images/train\nval: images/train\nnames: {names}\n")
    with pytest.raises(DataError, match=r"'names' has the keys .*; they should be 0, 1, 2"):
        open_dataset(root, "train")


@pytest.mark.parametrize("names", ["{1: cat, 2: dog}", "{2: dog, 1: cat}", "{'1': cat, '2': dog}"])
def test_classes_numbered_from_one_are_read_where_the_yaml_says_so(tmp_path: Path, names: str):
    root = write_yolo(tmp_path, "images/train", "2 0.5 0.5 0.25 0.5")
    (root / "data.yaml").write_text(f"train: images/train\nval: images/train\nnames: {names}\n")
    dataset = open_dataset(root, "train")
    assert dataset.categories.names == ("cat", "dog")
    assert set(dataset.class_indices.tolist()) == {1}
    assert "classes not numbered from 0: read by their names" in dataset.fix_counts
    for label in (root / "labels" / "train").iterdir():
        label.write_text("0 0.5 0.5 0.25 0.5")
    with pytest.raises(DataError, match=r"class 0, but only 2 classes have names \(1 to 2\)"):
        open_dataset(root, "train")


@pytest.mark.parametrize("yaml", ["names: [cat, dog]", "names: {0: cat, 1: dog}", ""])
@pytest.mark.parametrize(
    ("rows", "asks"),
    [
        (["1 0.5 0.5 0.2 0.2", "2 0.5 0.5 0.2 0.2"], True),
        (["2 0.5 0.5 0.2 0.2", "1 0.2 0.2 0.4 0.2 0.4 0.4"], True),
        (["0 0.5 0.5 0.2 0.2", "2 0.5 0.5 0.2 0.2"], False),
        (["1 0.5 0.5 0.2 0.2", "3 0.5 0.5 0.2 0.2"], False),
    ],
)
def test_labels_that_may_count_from_one_are_asked_about(
    tmp_path: Path, yaml: str, rows: list[str], asks: bool
):
    """Never shifted in silence: a name may lack just as well."""
    root = write_yolo(tmp_path, "images/train", "\n".join(rows))
    (root / "classes.txt").write_text("cat\ndog\n")
    if yaml:
        (root / "data.yaml").write_text(f"train: images/train\nval: images/train\n{yaml}\n")
    with pytest.raises(DataError, match="only 2 classes have names") as error:
        open_dataset(root, "train")
    assert ("names: {1: 'cat', 2: 'dog'}" in str(error.value)) is asks
