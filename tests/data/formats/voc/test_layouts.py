"""VOC: XML files in folders, and all the ways in which a data set is divided into splits."""

from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.discovery import discover_splits
from setmatch.data.open import open_dataset
from small_voc import box, xml

TRAIN, VAL = range(4), range(4, 7)
SPLITS = {"train": TRAIN, "val": VAL}


def write(root: Path, images: str, annotations: str) -> Path:
    """Write seven images of their own color, each with a box at a place of its own."""
    for number in range(7):
        split = "train" if number in TRAIN else "val"
        image, place = (each.format(s=split, b=number % 2) for each in (images, annotations))
        for folder in (image, place):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (number, 0, 0)).save(root / image / f"{number}.png")
        text = xml(box(number, 4, 36, 24), filename=f"{number}.png")
        (root / place / f"{number}.xml").write_text(text)
    return root


def lefts(root: Path, split: str) -> dict[str, float]:
    """Return the left side of the only box of each image."""
    dataset = open_dataset(root, split)
    return {
        dataset.path(image).stem: float(dataset.xywh_px[row, 0])
        for image in range(len(dataset))
        for row in dataset.rows(image)
    }


def check_splits(root: Path) -> None:
    for split, images in SPLITS.items():
        assert lefts(root, split) == {str(number): number for number in images}


LISTS = {
    "names": ("ImageSets/Main/{s}.txt", "{n}"),
    "names with folders": ("ImageSets/Main/{s}.txt", "{b}/{n}"),
    "images": ("ImageSets/Main/{s}.txt", "JPEGImages/{b}/{n}.png"),
    "beside": ("{s}.txt", "{n}"),
    "images beside": ("{s}.txt", "./JPEGImages/{b}/{n}.png"),
    "image and XML file": ("{s}.txt", "./JPEGImages/{b}/{n}.png ./Annotations/{b}/{n}.xml"),
    "PaddleX": ("{s}_list.txt", "JPEGImages/{b}/{n}.png Annotations/{b}/{n}.xml"),
    "Windows": ("{s}.txt", r"C:\\data\\JPEGImages\\{b}\\{n}.png"),
}


@pytest.mark.crossed
@pytest.mark.parametrize("lists", LISTS)
@pytest.mark.parametrize("batches", ["", "/{b}"], ids=["flat", "in folders"])
def test_lists_divide_xml_files(tmp_path: Path, batches: str, lists: str):
    write(tmp_path, f"JPEGImages{batches}", f"Annotations{batches}")
    place, line = LISTS[lists]
    for split, images in SPLITS.items():
        lines = (line.format(n=number, b=number % 2 if batches else "") for number in images)
        file = tmp_path / place.format(s=split)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{each}\r\n" for each in lines))
    check_splits(tmp_path)


def test_lists_of_single_classes_divide_as_vott_writes_them(tmp_path: Path):
    """Each names all images of its split, and 1 or -1 says which of them show the class."""
    write(tmp_path, "JPEGImages", "Annotations")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for split, images in SPLITS.items():
        for name, flag in (("dog", 1), ("cat", -1)):
            lines = "".join(f"{number}.png {flag}\n" for number in images)
            (tmp_path / "ImageSets" / "Main" / f"{name}_{split}.txt").write_text(lines)
    check_splits(tmp_path)


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("images/{s}", "annotations"),
        ("JPEGImages/{s}/{b}", "Annotations"),
        ("images/{s}", "annotations/{s}"),
        ("images", "annotations/{s}/{b}"),
        ("{s}/images", "annotations/{s}"),
        ("images/{s}", "{s}/annotations"),
    ],
)
def test_folders_of_splits_divide(tmp_path: Path, images: str, annotations: str):
    check_splits(write(tmp_path, images, annotations))


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("JPEGImages/{b}", "Annotations/{b}"),
        ("JPEGImages", "Annotations/{b}"),
        ("JPEGImages/{b}", "Annotations"),
    ],
)
def test_xml_files_in_folders_are_one_data_set(tmp_path: Path, images: str, annotations: str):
    write(tmp_path, images, annotations)
    assert list(discover_splits(tmp_path)) == ["all"]
    found = lefts(tmp_path, "train") | lefts(tmp_path, "val")
    assert found == {str(number): number for number in range(7)}


def test_the_folder_of_an_xml_file_tells_which_image_of_its_name_is_meant(tmp_path: Path):
    """Frames of several videos have the same names: CVAT writes a folder for each."""
    for number in range(2):
        for place in ("JPEGImages", "Annotations"):
            (tmp_path / place / f"clip{number}").mkdir(parents=True)
        image = Image.new("RGB", (60, 40 + number), (number, 0, 0))
        image.save(tmp_path / "JPEGImages" / f"clip{number}" / "frame.png")
        size = f"<size><width>60</width><height>{40 + number}</height></size>"
        text = xml(box(number, 4, 36, 24), filename="frame.png", size=size)
        (tmp_path / "Annotations" / f"clip{number}" / "frame.xml").write_text(text)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("clip0/frame\nclip1/frame\n")
    dataset = open_dataset(tmp_path, "train", format="voc")
    heights = {dataset.size_px(image)[0]: image for image in range(len(dataset))}
    for number in range(2):
        (row,) = dataset.rows(heights[40 + number])
        assert dataset.xywh_px[row, 0] == number
        assert dataset.path(heights[40 + number]).parent.name == f"clip{number}"


def test_a_folder_of_models_is_not_a_data_set(tmp_path: Path):
    """A model of OpenVINO that was exported beside the data is not another one."""
    write(tmp_path / "data", "JPEGImages", "Annotations")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.xml").write_text("<net></net>")
    (tmp_path / "export" / "model.bin").write_bytes(bytes(8))
    assert discover_splits(tmp_path).keys() == discover_splits(tmp_path / "data").keys()
