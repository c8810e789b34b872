"""The data set in a folder is found: in the folder itself, or in the only one inside."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.convert import convert_dataset
from setmatch.data.discovery import discover_splits
from setmatch.data.formats.registry import format_names
from setmatch.data.open import open_dataset, prefer_panoptic
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError

LABEL = "0 0.5 0.5 0.5 0.5\n"
XML = (
    "<annotation><object><name>dog</name><bndbox><xmin>6</xmin><ymin>4</ymin><xmax>36</xmax>"
    "<ymax>24</ymax></bndbox></object></annotation>"
)


def write(root: Path, *names: str, images: int = 12) -> Path:
    """Write images into a folder, and beside each the annotations of the named formats."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(images):
        Image.new("RGB", (60, 40)).save(root / f"{number}.png")
        for suffix, text in ((".txt", LABEL), (".xml", XML)):
            if suffix[1:] in names:
                (root / f"{number}{suffix}").write_text(text)
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same generated scenes in every format."""
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root / "coco", 8, 4, 64, 0, workers=1, panoptic=True)
    for format in ("voc", "yolo"):
        convert_dataset(root / "coco", root / format, format, format="coco")
    return {format: root / format for format in ("coco", "voc", "yolo")} | {
        "panoptic": root / "coco"
    }


@pytest.mark.crossed
@pytest.mark.parametrize("inside", ["images", "set", "my set/größe"])
@pytest.mark.parametrize("format", format_names())
def test_the_only_data_set_inside_a_folder_is_opened(
    tmp_path: Path, scenes: dict[str, Path], format: str, inside: str
):
    """As after unpacking an archive; a note says where it is."""
    (tmp_path / inside).parent.mkdir(exist_ok=True)
    (tmp_path / inside).symlink_to(scenes[format])
    requested = format if format == "panoptic" else None
    within, itself = (open_dataset(place, "val", requested) for place in (tmp_path, scenes[format]))
    assert (within.names, within.xywh_px.tolist()) == (itself.names, itself.xywh_px.tolist())
    assert set(within.notes) - set(itself.notes) == {
        f"no annotations in {tmp_path} itself; read from {inside}/"
    }


def test_panoptic_annotations_are_found_inside_a_folder_too(
    tmp_path: Path, scenes: dict[str, Path]
):
    (tmp_path / "set").symlink_to(scenes["panoptic"])
    assert prefer_panoptic(tmp_path, "train", None) == "panoptic"


def test_several_data_sets_in_a_folder_raise_an_error(tmp_path: Path):
    """The shallowest level counts."""
    write(tmp_path / "a", "xml")
    write(tmp_path / "b" / "deeper", "txt")
    assert {part.format for part in discover_splits(tmp_path).values()} == {"voc"}
    write(tmp_path / "c", "txt")
    with pytest.raises(DataError, match=re.escape("several data sets (a, c); name the folder")):
        discover_splits(tmp_path)
    assert {part.format for part in discover_splits(tmp_path, "voc").values()} == {"voc"}


def test_a_broken_folder_does_not_hide_the_good_one(tmp_path: Path):
    """A broken folder is reported only where there is no other data set."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "x.yaml").write_text("names: [")
    with pytest.raises(DataError, match=r"x\.yaml: cannot be read as YAML"):
        discover_splits(tmp_path)
    write(tmp_path / "set", "txt")
    assert {part.format for part in discover_splits(tmp_path).values()} == {"yolo"}


def test_the_search_stops_after_two_levels(tmp_path: Path):
    write(tmp_path / "a" / "b" / "c", "xml")
    (tmp_path / "a" / "other").mkdir()
    write(tmp_path / ".hidden", "xml")
    with pytest.raises(DataError, match=r"here or up to 2 folders deep; .*found a/$"):
        discover_splits(tmp_path)


@pytest.mark.crossed
@pytest.mark.parametrize("left", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails"])
@pytest.mark.parametrize("format", ["coco", "voc", "yolo"])
def test_copies_that_systems_leave_are_not_in_the_data(
    tmp_path: Path, scenes: dict[str, Path], format: str, left: str
):
    """A copy of a labeled image without its labels would teach that it shows no object."""
    root = shutil.copytree(scenes[format], tmp_path / "set")
    before = {split: open_dataset(root, split) for split in ("train", "val")}
    for file in [file for file in root.rglob("*") if file.is_file()]:
        place = file.parent / left
        place.mkdir(exist_ok=True)
        shutil.copy(file, place / f"{file.stem}-checkpoint{file.suffix}")
        shutil.copy(file, place / file.name)
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    shutil.copytree(root, root / left / "whole", ignore=shutil.ignore_patterns(left))
    for split, dataset in before.items():
        after = open_dataset(root, split)
        assert (after.file_names(), after.fixes, after.notes) == (
            *(dataset.file_names(), dataset.fixes, dataset.notes),
        )
        assert after.categories == dataset.categories
        assert after.xywh_px.tolist() == dataset.xywh_px.tolist()


@pytest.mark.parametrize(("labels", "is_refused"), [(1, False), (2, True), (6, True)])
def test_a_format_that_explains_far_more_is_asked_about(
    tmp_path: Path, labels: int, is_refused: bool
):
    """A COCO file of one image of six, beside labels: the others would be left out in silence."""
    write_scenes(tmp_path, 6, 1, 64, 0, 0)
    (tmp_path / "annotations/val.json").unlink()
    file = tmp_path / "annotations/train.json"
    tree = json.loads(file.read_text())
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    for image in tree["images"][:labels]:
        name = Path(image["file_name"])
        shutil.copy(tmp_path / "images" / name.name, tmp_path / "images/train")
        (tmp_path / f"labels/train/{name.stem}.txt").write_text(LABEL)
    first = tree["images"][0]["id"]
    tree["annotations"] = [each for each in tree["annotations"] if each["image_id"] == first]
    file.write_text(json.dumps(tree))
    if is_refused:
        message = rf"in 1 image as coco, and in {labels} as yolo: choose with --format coco"
        with pytest.raises(DataError, match=message):
            open_dataset(tmp_path, "train")
    else:
        assert "yolo annotations too" in open_dataset(tmp_path, "train").notes[0]
    for format in ("coco", "yolo"):
        assert len(open_dataset(tmp_path, "train", format).crowd)


def test_a_second_format_in_a_folder_is_reported(tmp_path: Path):
    """--format chooses it."""
    write(tmp_path, "txt", "xml")
    read = open_dataset(tmp_path, "train")
    assert f"read as yolo, but {tmp_path} holds voc annotations too" in read.notes[0]
    voc = open_dataset(tmp_path, "train", "voc")
    assert voc.categories.names == ("dog",)
    assert not any("annotations too" in note for note in open_dataset(tmp_path, "val", "voc").notes)


def test_panoptic_beside_instances_is_not_reported_as_a_second_format(scenes: dict[str, Path]):
    assert not open_dataset(scenes["coco"], "val").notes


def test_printed_commands_use_the_folder_as_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write(tmp_path / "with space" / "images", "xml")
    data = str(tmp_path / "with space")
    assert main(["audit", data]) == 0
    assert f"setmatch train '{data}' --recipe" in capsys.readouterr().out
    assert main(["convert-data", data, str(tmp_path / "out"), "--to", "coco"]) == 0
    assert len(open_dataset(tmp_path / "out", "train")) + len(
        open_dataset(tmp_path / "out", "val")
    ) == len(list((tmp_path / "with space" / "images").glob("*.png")))


@pytest.mark.parametrize("wrong", ["set1", "set1/images", "ste", "set/imgaes"])
def test_a_typo_in_a_path_gets_a_suggestion(tmp_path: Path, wrong: str):
    write(tmp_path / "set" / "images", "xml")
    meant = tmp_path / ("set/images" if wrong == "set/imgaes" else "set")
    with pytest.raises(
        DataError, match=re.escape(f"no such file or folder; did you mean {meant}?")
    ):
        discover_splits(tmp_path / wrong)
    with pytest.raises(DataError, match="no such file or folder; give a data set's folder"):
        discover_splits(tmp_path / "quite" / "other")


def test_the_error_for_a_wrong_format_names_the_right_one(tmp_path: Path):
    write(tmp_path, "xml", images=1)
    with pytest.raises(
        DataError, match=r"looked for YOLO .*; found voc annotations, 0\.png, 0\.xml"
    ):
        discover_splits(tmp_path, "yolo")


@pytest.mark.parametrize("name", ["0.xml", "0.png", "0.txt", "labels.csv"])
def test_a_file_that_is_not_a_data_set_is_refused(tmp_path: Path, name: str):
    """It is not called broken JSON."""
    write(tmp_path, "xml", "txt", images=1)
    (tmp_path / "labels.csv").write_text("name,price\n")
    with pytest.raises(DataError, match=r"neither COCO JSON nor a data\.yaml"):
        discover_splits(tmp_path / name)


def test_a_data_set_without_splits_has_no_test_split(tmp_path: Path):
    """Only a validation split can be held out."""
    write(tmp_path, "xml")
    with pytest.raises(DataError, match="no split 'test': its voc annotations are not divided"):
        open_dataset(tmp_path, "test")


def test_a_data_yaml_with_another_format_is_refused(tmp_path: Path):
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    with pytest.raises(
        DataError, match="a file of the format yolo, not coco; leave out --format coco"
    ):
        discover_splits(tmp_path / "data.yaml", "coco")


@pytest.mark.parametrize("place", [".", "2024/june"])
def test_a_folder_of_photographs_alone_learns_what_it_needs(tmp_path: Path, place: str):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40)).save(tmp_path / place / "a.jpg")
    with pytest.raises(DataError, match="images need annotations: draw boxes in a tool such as"):
        discover_splits(tmp_path)
