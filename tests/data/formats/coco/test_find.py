"""COCO files are recognized whatever the order of their keys, and however large."""

import json
from itertools import permutations
from pathlib import Path

import pytest

from setmatch.data.discovery import discover_splits
from setmatch.data.formats.coco.find import kind_of
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from small_coco import sound, write_images

FILLER = [{"id": 1000 + i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in range(3000)]
LONG = "x" * 200_000


def tree(kind: str, **large: object) -> dict:
    content = {"info": {"description": "a set"}, **sound(), "licenses": []}
    if kind == "panoptic":
        segments = [{"id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 0, "area": 25}]
        content["annotations"] = [
            {"image_id": 10, "file_name": "a.png", "segments_info": segments}
        ] * 3
    if kind == "captions":
        content["annotations"] = [{"id": 1, "image_id": 10, "caption": "a dog"}] * 3
    return content | large


@pytest.mark.crossed
@pytest.mark.parametrize("kind", ["coco", "panoptic", "captions"])
@pytest.mark.parametrize("large", ["nothing", "info", "images", "categories", "licenses"])
@pytest.mark.parametrize(
    "order", list(permutations(["images", "annotations", "categories"])), ids="-".join
)
def test_the_order_of_keys_and_the_size_do_not_matter(
    tmp_path: Path, kind: str, large: str, order: tuple[str, ...]
):
    content = tree(kind)
    if large == "images":
        content["images"] += FILLER
    elif large == "categories":  # as in LVIS
        content["categories"][0]["synonyms"] = LONG
    elif large != "nothing":
        content[large] = {"description": LONG}
    rest = [key for key in content if key not in order]
    ordered = {key: content[key] for key in (*rest[:1], *order, *rest[1:])}
    for text in (json.dumps(ordered), json.dumps(ordered, sort_keys=True, indent=1)):
        (tmp_path / "a.json").write_text(text)
        assert kind_of(tmp_path / "a.json") == (None if kind == "captions" else kind)


def test_a_large_file_with_sorted_keys_is_found_in_its_folder(tmp_path: Path):
    """Between its first and its last keys lie more than 128 KB of annotations."""
    content = sound()
    row = content["annotations"][0]
    content["annotations"] += [row | {"id": 100 + i} for i in range(2000)]
    content["categories"][0]["supercategory"] = LONG
    (tmp_path / "labels").mkdir()
    file = tmp_path / "labels/train.json"
    file.write_text(json.dumps(content, sort_keys=True))
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images")
    assert open_dataset(tmp_path, "train").source == file


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]


@pytest.mark.parametrize("encoding", [*ENCODINGS, "utf-32-be"])
@pytest.mark.parametrize("indent", [None, 1])
def test_the_encoding_does_not_matter(tmp_path: Path, encoding: str, indent: int | None):
    """With the mark of an encoding or without one."""
    write_images(tmp_path)
    text = json.dumps(sound(), indent=indent, ensure_ascii=False).replace("dog", "dög")
    (tmp_path / "train.json").write_text(text, encoding=encoding)
    assert kind_of(tmp_path / "train.json") == "coco"
    dataset = read_coco(tmp_path / "train.json")
    assert dataset.categories.names == ("car", "dög")
    assert dataset.xywh_px.tolist() == [[6, 4, 30, 20], [0, 0, 60, 40], [0, 0, 30, 20]]
    assert dataset.class_indices.tolist() == [1, 0, 0]


OTHERS = {
    "empty": "",
    "results": '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]',
    "no images": '{"annotations": [{"bbox": [1, 2, 3, 4]}]}',
    "no annotations": '{"images": [{"id": 1}]}',
    "a package": '{"name": "images", "files": ["annotations"]}',
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_other_json_is_not_recognized(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    assert kind_of(tmp_path / "a.json") is None


def test_a_pipe_is_not_read(tmp_path: Path):
    import os

    os.mkfifo(tmp_path / "a.json")
    assert kind_of(tmp_path / "a.json") is None


def test_equal_copies_of_a_file_are_one_and_different_ones_are_refused(tmp_path: Path):
    write_images(tmp_path)
    for name in ("train_a.json", "train_b.json"):
        (tmp_path / name).write_text(json.dumps(sound()))
    (source,) = discover_splits(tmp_path).values()
    assert source.source == tmp_path / "train_a.json"
    assert source.notes == ("split 'train' is read from train_a.json, not from train_b.json",)
    (tmp_path / "train_b.json").write_text(json.dumps(sound() | {"info": {}}))
    with pytest.raises(DataError, match=r"several JSON files for the split 'train'; name the one"):
        discover_splits(tmp_path)
