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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", ["1e400", "-1e400", "nan"])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("keypoints", [2, 4, 7])
def test_rows_that_are_not_finite_are_no_keypoints(tmp_path, value, place, keypoints):
    numbers = ["0.5"] * (4 + 2 * keypoints)
    numbers[place] = numbers[4 + place % 2] = value  # infinity less infinity is no number
    root = write_yolo(tmp_path, "images/train", " ".join(["0", *numbers]))
    with suppress(DataError):  # but no warning of numpy
        open_dataset(root, "train")
