"""Annotated images without a usable file: a few are left out, many are an error."""

import json
import shutil
from pathlib import Path

import pytest

from setmatch.cli import main
from setmatch.data.convert import convert_dataset
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError

IMAGES = 24


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same images in every format, with panoptic annotations and without."""
    root = tmp_path_factory.mktemp("formats")
    write_scenes(root / "panoptic", IMAGES, 1, 64, 2, 0, panoptic=True)
    for to in ("coco", "voc", "yolo"):
        convert_dataset(root / "panoptic", root / to, to, ("train",))
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(params=["coco", "panoptic", "voc", "yolo"])
def data(request: pytest.FixtureRequest, scenes: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(scenes[request.param], tmp_path / request.param)


def image_files(data: Path) -> list[Path]:
    return sorted(path for path in data.rglob("*.jpg") if "train" in path.name)


def listed(data: Path) -> Path:
    """Give a YOLO folder a list of its images; without one, a missing image goes unnoticed."""
    if data.name == "yolo":
        lines = "".join(f"{path.relative_to(data)}\n" for path in image_files(data))
        (data / "train.txt").write_text(lines)
        names = json.dumps(open_dataset(data, "train").categories.names)
        (data / "data.yaml").write_text(f"train: train.txt\nnames: {names}\n")
    return data


def test_a_few_missing_images_are_left_out_and_reported(
    data: Path, capsys: pytest.CaptureFixture[str]
):
    """A note says so when the data set is opened, and the audit names them."""
    listed(data)
    missing = image_files(data)[3]
    missing.unlink()
    after = open_dataset(data, "train", data.name)
    assert len(after) < IMAGES
    assert missing.name not in {Path(after.name(image)).name for image in range(len(after))}
    (fix,) = (each for each in after.fixes if each.description == "image file missing: left out")
    assert Path(fix.value).name == missing.name
    assert f"1 of {IMAGES} images is left out" in " ".join(after.notes)
    assert main(["audit", str(data), "--format", data.name]) == 0
    assert "image file missing: left out" in " ".join(capsys.readouterr().out.split())


def test_many_missing_images_raise_an_error(data: Path):
    """The error counts them, names three, and says what to do."""
    listed(data)
    for path in image_files(data)[:5]:
        path.unlink()
    with pytest.raises(DataError, match=rf"5 of {IMAGES} image files .*, \.\.\.; add the files"):
        open_dataset(data, "train", data.name)


def test_yolo_leaves_out_an_image_whose_size_is_unreadable(scenes, tmp_path: Path):
    """Other formats keep the image, because the annotations have its size."""
    for name, used in (("yolo", IMAGES - 1), ("voc", IMAGES), ("coco", IMAGES)):
        data = shutil.copytree(scenes[name], tmp_path / name)
        image_files(data)[3].write_bytes(b"<html>404</html>")
        parts = [open_dataset(data, split) for split in ("train", "val")]
        assert sum(map(len, parts)) == used
        fixes = [
            each for part in parts for each in part.fixes if "cannot be read" in each.description
        ]
        assert bool(fixes) == (name == "yolo")


def test_voc_leaves_out_an_image_of_unknown_size(scenes: dict[str, Path], tmp_path: Path):
    data = shutil.copytree(scenes["voc"], tmp_path / "voc")
    damaged = image_files(data)[3]
    damaged.write_bytes(b"")
    xml = data / "Annotations" / f"{damaged.stem}.xml"
    xml.write_text(xml.read_text().replace("<width>64</width>", "<width>0</width>"))
    dataset = open_dataset(data, "train")
    (fix,) = (each for each in dataset.fixes if "cannot be read: left out" in each.description)
    assert (fix.file, fix.value) == (xml.name, damaged.name)


@pytest.mark.parametrize("kind", ["coco", "panoptic"])
@pytest.mark.parametrize("damaged", [1, 3])
def test_coco_leaves_out_a_few_images_of_unknown_size(
    scenes, tmp_path: Path, kind: str, damaged: int
):
    """Three of 24 are too many."""
    data = shutil.copytree(scenes[kind], tmp_path / kind)
    source = data / "annotations" / ("panoptic_train.json" if kind == "panoptic" else "train.json")
    tree = json.loads(source.read_text())
    del tree["images"][3]["width"], tree["images"][7]["height"], tree["images"][11]["width"]
    source.write_text(json.dumps(tree))
    for path in image_files(data)[3 : 3 + 4 * damaged : 4]:
        path.write_bytes(b"<html>404</html>")
    if damaged == 3:
        with pytest.raises(
            DataError, match=r"3 of 24 image files are unreadable: .*; add the files"
        ):
            open_dataset(source, "train", kind)
        return
    dataset = open_dataset(source, "train", kind)
    name = tree["images"][3]["file_name"]
    assert len(dataset) == IMAGES - 1
    assert name not in {dataset.name(image) for image in range(len(dataset))}
    assert dataset.fix_counts["size read from the image file"] == 2
    (fix,) = (each for each in dataset.fixes if "cannot be read: left out" in each.description)
    assert (fix.file, fix.value) == (name, name)
    if kind == "panoptic":
        lost = len(tree["annotations"][3]["segments_info"])
    else:
        lost = sum(each["image_id"] == tree["images"][3]["id"] for each in tree["annotations"])
    assert dataset.fix_counts["of an image without a usable file: left out"] == lost > 0


@pytest.mark.parametrize("missing", [1, 3])
def test_an_image_without_its_segments_png_is_left_out(scenes, tmp_path: Path, missing: int):
    data = shutil.copytree(scenes["panoptic"], tmp_path / "set")
    pngs = sorted((data / "annotations/panoptic_train").iterdir())
    for png in pngs[:missing]:
        png.unlink()
    source = data / "annotations/panoptic_train.json"
    if missing == 3:
        with pytest.raises(DataError, match=r"3 of 24 PNG files of segments are missing: .*\.png"):
            open_dataset(source, "train", "panoptic")
        return
    dataset = open_dataset(source, "train", "panoptic")
    assert len(dataset) == IMAGES - 1
    (fix,) = (each for each in dataset.fixes if "PNG file is missing: left out" in each.description)
    assert (fix.file, fix.value) == (f"{pngs[0].stem}.jpg", pngs[0].name)
    assert f"1 of {IMAGES} images is left out" in " ".join(dataset.notes)
    assert all(dataset.segments(image) for image in range(len(dataset)))


def test_an_image_that_was_repaired_in_place_is_used_again(scenes, tmp_path: Path, monkeypatch):
    """Even though the data set is cached."""
    monkeypatch.setattr("setmatch.data.cache.cache._MIN_SECONDS", 0.0)
    data = shutil.copytree(scenes["coco"], tmp_path / "set")
    source = data / "annotations/train.json"
    tree = json.loads(source.read_text())
    del tree["images"][3]["width"]
    source.write_text(json.dumps(tree))
    image = image_files(data)[3]
    content = image.read_bytes()
    image.write_bytes(b"")
    assert len(open_dataset(source, "train")) == IMAGES - 1
    image.write_bytes(content)
    assert len(open_dataset(source, "train")) == IMAGES


@pytest.mark.parametrize("packed", ["images.zip", "train2017.tar.gz", "part1.ZIP"])
def test_packed_images_are_to_be_unpacked(data: Path, packed: str):
    """A user who unpacked the annotations alone is not told to remove the images from them."""
    listed(data)
    for image in image_files(data):
        image.unlink()
    (data / packed).write_bytes(b"PK")
    with pytest.raises(DataError, match=rf"unpack \S*{packed}, where the images may be"):
        open_dataset(data, "train", data.name)
