"""Annotated images without a file: few are left out by name in every format, many are refused."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.conversion import convert_dataset
from setmatch.data.opening import open_dataset
from setmatch.data.scenes import write_scenes
from setmatch.errors import DataError

IMAGES = 24


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same pictures in every format that is read, with panoptic annotations and without."""
    root = tmp_path_factory.mktemp("formats")
    write_scenes(root / "panoptic", IMAGES, 1, 64, 2, 0, panoptic=True)
    for to in ("coco", "voc", "yolo"):
        convert_dataset(root / "panoptic", root / to, to, ("train",))
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(params=["coco", "panoptic", "voc", "yolo"])
def data(request: pytest.FixtureRequest, scenes: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(scenes[request.param], tmp_path / request.param)


def pictures(data: Path) -> list[Path]:
    return sorted(path for path in data.rglob("*.jpg") if "train" in path.name)


def listed(data: Path) -> Path:
    """Give a YOLO folder a list of its images; without one, an image that is gone is not missed."""
    if data.name == "yolo":
        lines = "".join(f"{path.relative_to(data)}\n" for path in pictures(data))
        (data / "train.txt").write_text(lines)
        names = json.dumps(open_dataset(data, "train").categories.names)
        (data / "data.yaml").write_text(f"train: train.txt\nnames: {names}\n")
    return data


def test_few_are_left_out_by_name(data: Path, capsys: pytest.CaptureFixture[str]):
    """With their objects; who opens the data set is told, and so is who surveys it."""
    listed(data)
    gone = pictures(data)[3]
    gone.unlink()
    after = open_dataset(data, "train", data.name)
    assert len(after) < IMAGES
    assert gone.name not in {Path(after.name(image)).name for image in range(len(after))}
    (repair,) = (each for each in after.repairs if each.done == "image file missing: left out")
    assert Path(repair.value).name == gone.name
    assert f"1 of {IMAGES} images is left out" in " ".join(after.notes)
    assert main(["survey", str(data), "--format", data.name]) == 0
    assert "image file missing: left out" in " ".join(capsys.readouterr().out.split())


def test_many_are_refused(data: Path):
    """The error counts them, names three, and says what to do."""
    listed(data)
    for path in pictures(data)[:5]:
        path.unlink()
    with pytest.raises(DataError, match=rf"5 of {IMAGES} image files .*, \.\.\.; complete the"):
        open_dataset(data, "train", data.name)


def test_without_a_header_nobody_knows_where_the_boxes_of_yolo_are(scenes, tmp_path: Path):
    """A damaged image is left out by name; where the annotations tell the size, it stays."""
    for name, kept in (("yolo", IMAGES - 1), ("voc", IMAGES), ("coco", IMAGES)):
        data = shutil.copytree(scenes[name], tmp_path / name)
        pictures(data)[3].write_bytes(b"<html>404</html>")
        parts = [open_dataset(data, split) for split in ("train", "val")]
        assert sum(map(len, parts)) == kept
        told = [each for part in parts for each in part.repairs if "cannot be read" in each.done]
        assert bool(told) == (name == "yolo")


def test_of_voc_without_sizes_too(scenes: dict[str, Path], tmp_path: Path):
    """Neither the XML nor the file says it."""
    data = shutil.copytree(scenes["voc"], tmp_path / "voc")
    damaged = pictures(data)[3]
    damaged.write_bytes(b"")
    xml = data / "Annotations" / f"{damaged.stem}.xml"
    xml.write_text(xml.read_text().replace("<width>64</width>", "<width>0</width>"))
    Image.open(pictures(data)[4]).close()
    index = open_dataset(data, "train")
    (repair,) = (each for each in index.repairs if "cannot be read: left out" in each.done)
    assert (repair.file, repair.value) == (xml.name, damaged.name)
