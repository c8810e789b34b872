"""Data sets that are slow to read are cached, memory-mapped, and read again after any change."""

import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import setmatch.data.cache.cache as cache
from setmatch.data.dataset import DetectionDataset
from setmatch.data.discovery import discover_splits
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.formats.registry import format_named
from setmatch.data.open import open_dataset

RING = [1.0, 2.0, 30.0, 2.5, 10.0, 20.0]


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    """Give a data set that is cached however quickly it was read."""
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_MIN_SECONDS", 0.0)
    root = tmp_path / "set"
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    for split in ("train", "val"):
        Image.new("RGB", (60, 40)).save(root / "images" / f"{split}.png")
        save(root, split, [4, 3, 20, 10], [0, 0, 0, 0])
    return root


def save(root: Path, split: str, *boxes: list[float]) -> None:
    tree = {
        "images": [{"id": 1, "file_name": f"{split}.png", "height": 40, "width": 60}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 3, "bbox": box, "area": 1.0, "iscrowd": 0}
            | {"segmentation": [RING]}
            for i, box in enumerate(boxes)
        ],
    }
    (root / f"annotations/{split}.json").write_text(json.dumps(tree))


def cached_files(root: Path) -> list[Path]:
    return list((root.parent / "cache/datasets").glob("*.safetensors"))


def reads(root: Path, monkeypatch, split: str = "train") -> tuple[DetectionDataset, int]:
    """Open a split, and count how often its files are read."""
    part = discover_splits(root)[split]
    reader = format_named(part.format)
    calls = []
    counting = replace(reader, read=lambda part: calls.append(1) or reader.read(part))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "format_named", lambda name: counting)
        return cache.cached(part), len(calls)


def assert_equal(one: DetectionDataset, other: DetectionDataset) -> None:
    for part in (lambda dataset: dataset, lambda dataset: dataset.segmentations):
        for field in fields(part(one)):
            a, b = getattr(part(one), field.name), getattr(part(other), field.name)
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
            elif field.name != "segmentations":
                assert a == b


def test_the_cached_data_set_equals_the_one_read(root: Path, monkeypatch):
    """The second time, nothing is read."""
    fresh = read_coco(root / "annotations" / "train.json")
    assert fresh.fixes
    first, read_first = reads(root, monkeypatch)
    second, read_second = reads(root, monkeypatch)
    assert (read_first, read_second) == (1, 0)
    assert_equal(fresh, first)
    assert_equal(fresh, second)
    assert len(second.target(0)) == 1


def test_cached_arrays_are_mapped_and_read_only(root: Path, monkeypatch):
    reads(root, monkeypatch)
    dataset, _ = reads(root, monkeypatch)
    for column in (dataset.xywh_px, dataset.class_indices, dataset.segmentations.points_px):
        assert not column.flags.owndata
        assert not column.flags.writeable


def later(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    """Change a file, but neither its size nor its time, as `cp -p` of another one would."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # clocks of file systems are coarse
        path.write_bytes(path.read_bytes().replace(old, new))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_file_that_was_rewritten_with_its_size_and_time_is_noticed(root: Path, monkeypatch):
    """Also in the middle of a large one, which is not compared byte by byte."""
    monkeypatch.setattr(cache, "_SAMPLED_BYTES", 8)
    reads(root, monkeypatch)
    rewrite(root / "annotations/train.json", b"[4, 3, 20, 10]", b"[4, 3, 20, 11]")
    dataset, count = reads(root, monkeypatch)
    assert count == 1
    assert dataset.xywh_px[0].tolist() == [4, 3, 20, 11]


def test_a_label_that_was_rewritten_with_its_size_and_time_is_noticed(tmp_path: Path, monkeypatch):
    """Formats with a file for each image are cached by the times of all of them."""
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_MIN_SECONDS", 0.0)
    root = tmp_path / "set"
    for part in ("images", "labels"):
        (root / part / "train").mkdir(parents=True)
    Image.new("RGB", (100, 100)).save(root / "images/train/a.png")
    label = root / "labels/train/a.txt"
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    assert reads(root, monkeypatch)[1] == 1
    assert reads(root, monkeypatch)[1] == 0
    rewrite(label, b"0.2 0.2", b"0.2 0.4")
    dataset, count = reads(root, monkeypatch)
    assert count == 1
    assert dataset.xywh_px[0].tolist() == pytest.approx([40, 30, 20, 40])


CHANGES = {
    "another box": lambda root: save(root, "train", [4, 3, 20, 11]),
    "a new time": lambda root: later(root / "annotations/train.json"),
    "a new image": lambda root: shutil.copy(root / "images/val.png", root / "images/b.png"),
    "a nearer folder of images": lambda root: shutil.copytree(root / "images", root / "train"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_files_is_noticed(root: Path, monkeypatch, change):
    """The cached data set of the other split is independent."""
    reads(root, monkeypatch)
    reads(root, monkeypatch, "val")
    change(root)
    assert reads(root, monkeypatch)[1] == 1
    assert reads(root, monkeypatch)[1] == 0


def test_a_change_of_equal_size_and_time_is_noticed(root: Path, monkeypatch):
    """The beginning and the end of the file are compared too."""
    reads(root, monkeypatch)
    path = root / "annotations/train.json"
    status = path.stat()
    path.write_text(path.read_text().replace('"cat"', '"dog"'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    dataset, count = reads(root, monkeypatch)
    assert (count, dataset.categories.names) == (1, ("dog",))


@pytest.mark.parametrize("listed", [None, ".", "lists"])
def test_a_change_of_one_label_file_is_noticed(root: Path, monkeypatch, listed: str | None):
    """Whether folders of images make up the splits or lists, in the folder where these are."""
    yolo = root.parent / "yolo"
    for split in ("train", "val"):
        (yolo / "images" / split).mkdir(parents=True)
        (yolo / "labels" / split).mkdir(parents=True)
        shutil.copy(root / "images/val.png", yolo / "images" / split / "a.png")
        (yolo / "labels" / split / "a.txt").write_text("0 .5 .5 .5 .5\n")
        if listed is not None:
            (yolo / listed).mkdir(exist_ok=True)
            (yolo / listed / f"{split}.txt").write_text(f"images/{split}/a.png\n")
    if listed is not None:
        text = f"names: [cat]\ntrain: {listed}/train.txt\nval: {listed}/val.txt\n"
        (yolo / "data.yaml").write_text(text)
    assert reads(yolo, monkeypatch)[1] == 1
    assert reads(yolo, monkeypatch)[1] == 0
    (yolo / "labels/train/a.txt").write_text("0 .5 .5 .5 .6\n")
    assert reads(yolo, monkeypatch)[1] == 1
    Image.new("RGB", (60, 48)).save(yolo / "images/train/a.png")
    dataset, count = reads(yolo, monkeypatch)
    assert (count, dataset.size_px(0)) == (1, (48, 60))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_cache_is_read_again(root: Path, monkeypatch, data: st.DataObject):
    """Any flipped bit and any truncation."""
    whole, _ = reads(root, monkeypatch)
    (path,) = cached_files(root)
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    flipped = good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :]
    path.unlink()
    path.write_bytes(data.draw(st.sampled_from([good[:place], flipped])))
    dataset, count = reads(root, monkeypatch)
    assert count == 1
    assert_equal(whole, dataset)


def test_a_data_set_opens_when_the_cache_cannot_be_written(root: Path, monkeypatch):
    (root.parent / "cache").write_text("a file")
    assert reads(root, monkeypatch)[1] == 1
    assert len(open_dataset(root, "train")) == 1


def test_a_data_set_that_is_read_quickly_is_not_cached(root: Path, monkeypatch):
    monkeypatch.setattr(cache, "_MIN_SECONDS", 60.0)
    reads(root, monkeypatch)
    assert cached_files(root) == []
