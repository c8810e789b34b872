"""Unreadable files are found quickly before training; sound files are never reported."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.data.images.corrupt_files import (
    check_evaluation_corruption,
    check_training_corruption,
    find_unreadable,
    unreadable_notes,
)
from setmatch.data.images.unreadable import UnreadableFile
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError


def write_image(path: Path, size: tuple[int, int] = (96, 64), **how) -> bytes:
    Image.effect_noise(size, 60).convert("RGB").save(path, **how)
    return path.read_bytes()


def dataset_over(folder: Path) -> DetectionDataset:
    """Return a data set of all files, each annotated as 96×64 pixels with two boxes and a crowd."""
    names = sorted(path.name for path in folder.iterdir())
    tree = {
        "images": [
            {"id": i, "file_name": n, "width": 96, "height": 64} for i, n in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": 3 * i + k, "image_id": i, "category_id": 1, "bbox": [2, 2, 9 + k, 9]}
            | {"iscrowd": int(k == 2)}
            for i in range(len(names))
            for k in range(3)
        ],
    }
    file = folder.parent / "set.json"
    file.write_text(json.dumps(tree))
    return read_coco(file, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def test_every_kind_of_damage_is_found_and_nothing_else(folder: Path):
    """Truncated, empty, not an image, missing, and of another size than annotated."""
    for suffix in ("jpg", "png"):
        whole = write_image(folder / f"whole.{suffix}")
        (folder / f"cut.{suffix}").write_bytes(whole[:-70])
        (folder / f"page.{suffix}").write_bytes(b"<html>404</html>")
        (folder / f"empty.{suffix}").write_bytes(b"")
        write_image(folder / f"gone.{suffix}")
        write_image(folder / f"turned.{suffix}", (64, 64))
        (folder / f"after.{suffix}").write_bytes(whole + bytes(500))
    write_image(folder / "other.webp")
    turned = Image.Exif()
    turned[0x0112] = 6
    write_image(folder / "exif.jpg", (64, 96), exif=turned)
    write_image(folder / "smaller.jpg", (48, 32))
    dataset = dataset_over(folder)
    for suffix in ("jpg", "png"):
        (folder / f"gone.{suffix}").unlink()
    found = {dataset.name(image): problem for image, problem in find_unreadable(dataset).items()}
    kinds = ("cut", "page", "empty", "gone", "turned")
    assert set(found) == {f"{kind}.{suffix}" for kind in kinds for suffix in ("jpg", "png")}
    assert all(name in str(each) and "\n" not in str(each) for name, each in found.items())


def test_png_files_of_segments_are_checked_where_masks_are_used(tmp_path: Path):
    write_scenes(tmp_path, 6, 1, 64, 1, 0, panoptic=True)
    wide = [tmp_path / "images" / f"train_00000{image}.jpg" for image in range(6)]
    pngs = [tmp_path / "annotations/panoptic_train" / f"{path.stem}.png" for path in wide]
    source = tmp_path / "annotations/panoptic_train.json"
    tree = json.loads(source.read_text())
    for image, path, png in zip(tree["images"], wide, pngs, strict=True):
        image["height"] = 32
        Image.open(path).crop((0, 0, 64, 32)).save(path)
        Image.open(png).crop((0, 0, 64, 32)).save(png)
    source.write_text(json.dumps(tree))
    dataset = read_panoptic(source)
    assert find_unreadable(dataset, masks=True) == {}
    pngs[0].write_bytes(pngs[0].read_bytes()[:-90])
    pngs[1].write_bytes(b"<html>404</html>")
    Image.open(pngs[2]).rotate(90, expand=True).save(pngs[2])
    Image.open(pngs[3]).resize((32, 16)).save(pngs[3])
    pngs[4].unlink()
    found = find_unreadable(dataset, masks=True)
    assert list(found) == [0, 1, 2, 3, 4]
    for image, problem in found.items():
        assert str(pngs[image]) in str(problem)
        assert "\n" not in str(problem)
    assert find_unreadable(dataset) == {}


def test_a_check_decodes_no_sound_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """So that thousands of files take seconds."""
    whole = write_image(folder / "0.jpg", (96, 64))
    for number in range(1, 20):
        (folder / f"{number}.jpg").write_bytes(whole)
    dataset = dataset_over(folder)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", pytest.fail)
    assert not find_unreadable(dataset)
    assert len(find_unreadable(dataset, 10)) == 0


def test_more_than_one_percent_unreadable_images_raise_an_error(folder: Path):
    """Evaluation always accepts one; training without skipping accepts none."""
    for number in range(100):
        (folder / f"{number:02d}.jpg").write_bytes(b"x")
    dataset = dataset_over(folder)
    one, other = UnreadableFile("07.jpg", "x"), UnreadableFile("08.jpg", "y")
    for few in ({}, {7: one}):
        check_training_corruption(dataset, few.values(), True)
        check_evaluation_corruption(dataset, few)
    many = {7: one, 8: other}
    line = r"set\.json: 2 of 100 images cannot be read: 07\.jpg \(x\), 08\.jpg \(y\); "
    with pytest.raises(DataError, match=rf"{line}training leaves out at most 1%"):
        check_training_corruption(dataset, many.values(), True)
    with pytest.raises(DataError, match=r"^07\.jpg: cannot be read as an image \(x\); replace"):
        check_training_corruption(dataset, [one], False)
    with pytest.raises(DataError, match=rf"{line}with more than 1%, metrics would measure"):
        check_evaluation_corruption(dataset, many)
    few_images = dataset.choose(np.arange(10), "ten of them")
    check_evaluation_corruption(few_images, {7: one})
    (note,) = unreadable_notes(dataset, {7: one})
    assert note == f"no detections, so that its objects count as missed (2): {one}"
