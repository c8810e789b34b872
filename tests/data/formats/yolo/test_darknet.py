"""YOLO: lists of classes and .data files of Darknet, under the names that people give them."""

from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.open import open_dataset
from setmatch.errors import DataError

NAMES = "cat\ndog\n"
PLACES = {"images": ("images", "labels"), "obj": ("data/obj", "data/obj"), "beside": (".", ".")}


def write(root: Path, images: str, labels: str) -> list[str]:
    """Write four images, each with a box of class 1, and return their names."""
    for number in range(4):
        for place in (images, labels):
            (root / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (number, 0, 0)).save(root / images / f"{number}.png")
        (root / labels / f"{number}.txt").write_text(f"1 0.{number + 1} 0.5 0.1 0.1\n")
    return [f"{number}.png" for number in range(4)]


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.parametrize("layout", PLACES)
@pytest.mark.parametrize(
    "file", ["custom.names", "My Classes.NAMES", "cfg/custom.names", "data/custom.names"]
)
def test_class_names_are_read_from_a_file_of_any_name(tmp_path: Path, layout: str, file: str):
    """Before, classes were named by their numbers."""
    write(tmp_path, *PLACES[layout])
    text(tmp_path / file, NAMES)
    assert open_dataset(tmp_path, "train").categories.names == ("cat", "dog")


def test_a_usual_list_of_classes_comes_before_a_leftover_one(tmp_path: Path):
    write(tmp_path, "images", "labels")
    text(tmp_path / "coco.names", "person\nbicycle\ncar\n")
    text(tmp_path / "classes.txt", NAMES)
    assert open_dataset(tmp_path, "train").categories.names == ("cat", "dog")


def test_two_lists_of_any_name_that_number_classes_differently_are_refused(tmp_path: Path):
    write(tmp_path, "images", "labels")
    text(tmp_path / "a.names", NAMES)
    text(tmp_path / "cfg" / "b.names", "dog\ncat\n")
    with pytest.raises(DataError, match=r"b\.names: its list of classes is .*a\.names is"):
        open_dataset(tmp_path, "train")
    text(tmp_path / "cfg" / "b.names", "cat\n")
    assert open_dataset(tmp_path, "train").categories.names == ("cat", "dog")


@pytest.mark.crossed
@pytest.mark.parametrize("folder", ["cfg", "config", "data", "Cfg", "."])
@pytest.mark.parametrize("layout", PLACES)
@pytest.mark.parametrize("before", ["", "/darknet/", "x64\\data\\"])
@pytest.mark.parametrize("named", [False, True], ids=["folder", "file"])
def test_a_data_file_in_a_folder_of_settings_is_read(
    tmp_path: Path, folder: str, layout: str, before: str, named: bool
):
    """Its paths start where Darknet is started: beside the folder, and not in it."""
    images, labels = PLACES[layout]
    names = write(tmp_path, images, labels)
    inside = "" if images == "." else f"{images}/"
    for split, part in (("train", names[:3]), ("test", names[3:])):
        lines = "".join(f"{before}{inside}{name}\n" for name in part)
        text(tmp_path / "lists" / f"{split}.txt", lines)
    text(tmp_path / folder / "custom.names", NAMES)
    within = "" if folder == "." else f"{folder}/"
    settings = {
        "train": f"{before}lists/train.txt",
        "valid": f"{before}lists/test.txt",
        "names": f"{before}{within}custom.names",
        "backup": "backup/",
    }
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
    text(tmp_path / folder / "custom.data", f"classes= 2\n{lines}")
    path = tmp_path / folder / "custom.data" if named else tmp_path
    for split, part in (("train", names[:3]), ("val", names[3:])):
        dataset = open_dataset(path, split)
        assert [Path(name).name for name in dataset.file_names()] == part
        assert dataset.categories.names == ("cat", "dog")
        assert dataset.class_indices.tolist() == [1] * len(part)


def test_comments_of_a_data_file_mean_nothing(tmp_path: Path):
    names = write(tmp_path, "images", "labels")
    text(tmp_path / "train.txt", "".join(f"images/{name}\n" for name in names))
    text(tmp_path / "a.names", NAMES)
    lines = "# mine\n;valid = old.txt\ntrain = train.txt  # all\n#train = x.txt\nnames = a.names\n"
    text(tmp_path / "obj.data", lines)
    dataset = open_dataset(tmp_path, "train")
    assert dataset.categories.names == ("cat", "dog")


def test_examples_of_settings_that_lead_nowhere_do_not_count(tmp_path: Path):
    """A copy of Darknet has cfg/coco.data and data/coco.names of other images."""
    write(tmp_path, "images", "labels")
    text(tmp_path / "classes.txt", NAMES)
    text(tmp_path / "cfg/coco.data", "train = coco/train.txt\nnames = data/coco.names\n")
    text(tmp_path / "data/coco.names", "person\nbicycle\n")
    assert open_dataset(tmp_path, "train").categories.names == ("cat", "dog")


def test_the_metric_of_a_data_file_is_no_split(tmp_path: Path):
    names = write(tmp_path, "images", "labels")
    for split, part in (("train", names[:3]), ("valid", names[3:])):
        text(tmp_path / f"{split}.txt", "".join(f"images/{name}\n" for name in part))
    text(tmp_path / "obj.names", NAMES)
    lines = "train = train.txt\nvalid = valid.txt\nnames = obj.names\neval=coco\n"
    text(tmp_path / "obj.data", lines)
    assert len(open_dataset(tmp_path, "train")) == 3
    assert len(open_dataset(tmp_path, "val")) == 1


@pytest.mark.parametrize("between", [": ", ":", " ", "\t", " = ", ", "])
def test_class_names_may_have_their_numbers_before_them(tmp_path: Path, between: str):
    write(tmp_path, "images", "labels")
    lines = [f"{number}{between}{name}\n" for number, name in enumerate(("red cat", "dog"))]
    text(tmp_path / "classes.txt", "".join(lines))
    assert open_dataset(tmp_path, "train").categories.names == ("red cat", "dog")


@pytest.mark.parametrize(
    "lines", ["0 euro|1 euro", "1 cat|2 dog", "0 cat|2 dog", "cat|1 dog", "0|1", "0 cats|one"]
)
def test_numbers_that_are_part_of_class_names_stay(tmp_path: Path, lines: str):
    write(tmp_path, "images", "labels")
    text(tmp_path / "classes.txt", lines.replace("|", "\n"))
    assert open_dataset(tmp_path, "train").categories.names == tuple(lines.split("|"))
