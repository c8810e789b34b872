"""YOLO: the folder of labels is found in layouts that mix, repeat or leave out folders."""

from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.discovery import discover_splits
from setmatch.data.open import open_dataset
from setmatch.errors import DataError

# Folders of images and of their labels, with a split {s} and a batch {b} of images.
WITH_SPLITS = {
    "images inside, labels outside": ("{s}/images", "labels/{s}"),
    "labels inside, images outside": ("images/{s}", "{s}/labels"),
    "images without a word": ("{s}", "labels/{s}"),
    "labels without a word": ("images/{s}", "{s}"),
    "words of labels in names": ("{s}", "{s}_labels"),
    "words before": ("{s}", "labels-{s}"),
    "labels packed twice": ("images/{s}", "labels/labels/{s}"),
    "splits packed twice": ("images/{s}", "labels/{s}/{s}"),
    "all packed twice": ("images/{s}/{s}", "labels/{s}/{s}"),
    "labels of a split packed twice": ("{s}/images", "{s}/labels/labels"),
    "images packed twice": ("images/images/{s}", "labels/{s}"),
    "labels flat": ("images/{s}", "labels"),
    "batches": ("images/{s}/{b}", "labels/{s}/{b}"),
    "batches inside": ("{s}/images/{b}", "{s}/labels/{b}"),
    "batches of images alone": ("images/{s}/{b}", "labels/{s}"),
    "batches, all mixed": ("{s}/images/{b}", "labels/{s}/{b}"),
    "batches, labels flat": ("{s}/images/{b}", "labels"),
    "capitals": ("{S}/IMAGES", "{S}/LABELS"),
    "Pascal VOC's folder": ("JPEGImages/{s}", "labels/{s}"),
}
WITHOUT_SPLITS = {
    "labels packed twice": ("images", "labels/labels"),
    "both packed twice": ("images/images", "labels/labels"),
    "images packed twice": ("images/images", "labels"),
    "packed in another word": ("images", "labels/txt"),
    "batches of images": ("images/{b}", "labels"),
    "batches, packed twice": ("images/{b}", "labels/labels"),
    "Pascal VOC's folder": ("JPEGImages", "labels"),
    "makesense.ai": ("images", "labels_my-project_2024-01-01-10-00-00"),
    "a word in a name": ("photos/images", "photos/my labels"),
}
TRAIN, VAL = range(4), range(4, 7)


def write(root: Path, layout: tuple[str, str], images: range = range(7)) -> Path:
    """Write images of their own color and label files, each with a box at a place of its own."""
    root.mkdir(exist_ok=True)
    (root / "classes.txt").write_text("cat\ndog\n")
    for number in images:
        split = "train" if number in TRAIN else "val"
        words = {"s": split, "S": split.upper(), "b": f"batch {number % 2}"}
        image, label = (root / place.format(**words) for place in layout)
        for place in (image, label):
            place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (number, 0, 0)).save(image / f"{number}.png")
        (label / f"{number}.txt").write_text(f"{number % 2} 0.{number + 1} 0.5 0.1 0.1\n")
    return root


def boxes(root: Path, split: str) -> dict[int, tuple[str, float]]:
    """Return the class and ten times the center x of the only box of each image."""
    dataset, found = open_dataset(root, split), {}
    for image in range(len(dataset)):
        (row,) = dataset.rows(image)
        name = dataset.categories.names[dataset.class_indices[row]]
        x, _, w, _ = dataset.xywh_px[row].tolist()
        found[int(dataset.path(image).stem)] = name, round((x + w / 2) / 6, 3)
    return found


def expected(images: range) -> dict[int, tuple[str, float]]:
    return {number: (("cat", "dog")[number % 2], float(number + 1)) for number in images}


def name_images_in_yaml(root: Path, layout: tuple[str, str]) -> None:
    paths = {
        split: layout[0].partition("/{b}")[0].format(s=split, S=split.upper())
        for split in ("train", "val")
    }
    text = "".join(f"{split}: {path}\n" for split, path in paths.items())
    (root / "data.yaml").write_text(f"{text}names: [cat, dog]\n")


@pytest.mark.crossed
@pytest.mark.parametrize("named", [False, True], ids=["folders alone", "data.yaml"])
@pytest.mark.parametrize("layout", WITH_SPLITS)
def test_labels_of_splits_are_found_wherever_they_lie(tmp_path: Path, layout: str, named: bool):
    write(tmp_path, WITH_SPLITS[layout])
    if named:
        name_images_in_yaml(tmp_path, WITH_SPLITS[layout])
    assert boxes(tmp_path, "train") == expected(TRAIN)
    assert boxes(tmp_path, "val") == expected(VAL)


@pytest.mark.parametrize("layout", WITHOUT_SPLITS)
def test_labels_are_found_wherever_they_lie(tmp_path: Path, layout: str):
    (split,) = discover_splits(write(tmp_path, WITHOUT_SPLITS[layout])).values()
    assert split.split == "all"
    found = boxes(tmp_path, "train") | boxes(tmp_path, "val")
    assert found == expected(range(7))


def write_same_names(root: Path, labels: str, colors: tuple[int, int]) -> Path:
    for batch, color in zip(("a", "b"), colors, strict=True):
        (root / "images" / batch).mkdir(parents=True)
        Image.new("RGB", (60, 40), (color, 0, 0)).save(root / "images" / batch / "0.png")
    (root / labels).mkdir(parents=True)
    (root / labels / "0.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    return root


@pytest.mark.parametrize("labels", ["labels", "labels/labels", "annotations"])
def test_a_label_file_of_different_images_is_refused(tmp_path: Path, labels: str):
    """The label may be of either image, and the other would learn boxes that it does not have."""
    write_same_names(tmp_path, labels, (1, 2))
    with pytest.raises(
        DataError, match=r"0\.txt: may be the labels of .*a.0\.png or of .*b.0\.png"
    ):
        open_dataset(tmp_path, "train")


def test_a_label_file_of_two_copies_of_an_image_is_of_both(tmp_path: Path):
    write_same_names(tmp_path, "labels", (1, 1))
    dataset = open_dataset(tmp_path, "train")
    assert dataset.offsets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("images", "labels"),
    list(product(["images/train/more", "images/train"], ["images", "images/val"])),
)
def test_images_without_labels_take_none_of_another_folder(
    tmp_path: Path, images: str, labels: str
):
    """A folder of images whose labels lie in their own place has no claim to those of others."""
    write(tmp_path, ("images/train", "labels/train"))
    (tmp_path / images).mkdir(exist_ok=True)
    Image.new("RGB", (60, 40), (99, 0, 0)).save(tmp_path / images / "bare.png")
    other = tmp_path / labels.replace("images", "labels")
    other.mkdir(exist_ok=True)
    (other / "bare.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    Image.new("RGB", (60, 40), (88, 0, 0)).save(tmp_path / "images" / "bare.png")
    dataset = open_dataset(tmp_path, "train")
    (bare,) = [each for each in range(len(dataset)) if dataset.path(each).stem == "bare"]
    assert list(dataset.rows(bare)) == []


@pytest.mark.parametrize("lists", ["{}.txt", "autosplit_{}.txt"])
def test_lists_of_images_divide_them(tmp_path: Path, lists: str):
    write(tmp_path, ("images", "labels"))
    for split, images in (("train", TRAIN), ("val", VAL)):
        lines = (f"./images/{number}.png\n" for number in images)
        (tmp_path / lists.format(split)).write_text("".join(lines))
    assert boxes(tmp_path, "train") == expected(TRAIN)
    assert boxes(tmp_path, "val") == expected(VAL)


@pytest.mark.parametrize(
    "name", ["classes.txt", "Classes.txt", "names.txt", "predefined_classes.txt", "_darknet.labels"]
)
@pytest.mark.parametrize("place", [".", "labels"])
def test_class_names_are_read_under_the_names_of_tools(tmp_path: Path, name: str, place: str):
    write(tmp_path, ("images", "labels"))
    (tmp_path / "classes.txt").rename(tmp_path / place / name)
    assert open_dataset(tmp_path, "train").categories.names == ("cat", "dog")


@pytest.mark.parametrize("leftover", WITH_SPLITS)
def test_a_leftover_image_in_another_layout_does_not_win(tmp_path: Path, leftover: str):
    """images/train with one old image came before train/images with all of them."""
    old = range(3, 4)
    write(tmp_path, WITH_SPLITS[leftover], old)
    for layout in (("{s}/images", "{s}/labels"), ("images/{s}", "labels/{s}")):
        if layout[0] != WITH_SPLITS[leftover][0].replace("/{b}", ""):
            write(tmp_path, layout)
            break
    assert boxes(tmp_path, "train") == expected(TRAIN)


@pytest.mark.parametrize(
    "layout", [("{s}/images", "{s}/labels"), ("images/{s}", "labels/{s}"), ("{s}", "{s}")]
)
def test_splits_have_the_same_classes_where_these_are_named_by_numbers(
    tmp_path: Path, layout: tuple[str, str]
):
    """The highest class may be in one split alone."""
    write(tmp_path, layout)
    (tmp_path / "classes.txt").unlink()
    (tmp_path / layout[1].format(s="val") / "5.txt").write_text("4 0.5 0.5 0.1 0.1\n")
    for split in ("train", "val"):
        assert open_dataset(tmp_path, split).categories.names == tuple("01234")


@pytest.mark.parametrize("place", [".", "train"])
def test_xml_files_beside_the_labels_come_first_in_vocs_folders(tmp_path: Path, place: str):
    """Darknet writes labels/ beside Annotations/, which alone knows the names of the classes."""
    write(tmp_path / place, ("JPEGImages", "labels"))
    (tmp_path / place / "classes.txt").unlink()
    (tmp_path / place / "Annotations").mkdir()
    for number in range(7):
        name = f"<filename>{number}.png</filename>"
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        text = f"{name}<object><name>dog</name><bndbox>{box}</bndbox></object>"
        file = tmp_path / place / "Annotations" / f"{number}.xml"
        file.write_text(f"<annotation>{text}</annotation>")
    assert open_dataset(tmp_path, "train").categories.names == ("dog",)
