"""Boxes, ids and flags as other tools write them into COCO files are read as the plain ones."""

import copy
import json
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from setmatch.data.annotations.box_convention import BoxConvention
from setmatch.data.audit.fix import fix_coco
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.box_notations import read_notation
from setmatch.data.formats.coco.read import read_coco
from setmatch.errors import DataError
from small_coco import edited, object_, read, sound, write_images

Box = list[float]


def _sides(*names: str, corners: bool = False) -> Callable[[Box], Any]:
    def write(box: Box) -> Any:
        x, y, w, h = box
        return dict(zip(names, [x, y, x + w, y + h] if corners else box, strict=True))

    return write


NOTATIONS: dict[str, Callable[[Box], Any]] = {
    "texts": lambda box: list(map(str, box)),
    "texts with blanks": lambda box: [f" {side} " for side in box],
    "some texts": lambda box: [str(box[0]), *box[1:]],
    "one text": str,
    "one text without commas": lambda box: " ".join(map(str, box)),
    "one text without brackets": lambda box: ",".join(map(str, box)),
    "a list in a list": lambda box: [box],
    "a text in a list": lambda box: [str(box)],
    "deeper": lambda box: [[[box]]],
    "x y width height": _sides("x", "y", "width", "height"),
    "x y w h": _sides("x", "y", "w", "h"),
    "capitals": _sides("X", "Y", "Width", "Height"),
    "left top": _sides("left", "top", "width", "height"),
    "texts by name": lambda box: _sides("x", "y", "w", "h")([str(side) for side in box]),
    "corners": _sides("xmin", "ymin", "xmax", "ymax", corners=True),
    "corners of Python": _sides("x_min", "y_min", "x_max", "y_max", corners=True),
    "numbered corners": _sides("x1", "y1", "x2", "y2", corners=True),
    "right bottom": _sides("left", "top", "right", "bottom", corners=True),
    "another thing, too": lambda box: _sides("x", "y", "w", "h")(box) | {"label": "dog"},
}
READ = "box in another notation: read"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def _same(one: DetectionDataset, other: DetectionDataset) -> None:
    assert one.xywh_px.tolist() == other.xywh_px.tolist()
    assert one.class_indices.tolist() == other.class_indices.tolist()
    assert one.offsets.tolist() == other.offsets.tolist()
    assert one.crowd.tolist() == other.crowd.tolist()
    assert one.file_names() == other.file_names()
    assert one.categories.names == other.categories.names


def _fixed_copy(folder: Path, tree: dict[str, Any], dataset: DetectionDataset) -> DetectionDataset:
    """The copy that the audit writes, which must have nothing left to fix."""
    fixed, changes = fix_coco(json.loads(json.dumps(tree)), dataset)
    assert changes
    again = read(folder, fixed)
    assert again.fixes == ()
    return again


@pytest.mark.crossed
@pytest.mark.parametrize("write", NOTATIONS.values(), ids=NOTATIONS)
@pytest.mark.parametrize("which", [(0, 1, 2), (1,)], ids=["all", "one"])
def test_a_box_in_another_notation_is_that_box(
    folder: Path, write: Callable[[Box], Any], which: tuple[int, ...]
):
    numbers = random.Random(0)
    tree = sound()
    for record in tree["annotations"]:
        record["bbox"] = [float(numbers.randint(1, 20)) + 0.25 for _ in range(4)]
    plain = read(folder, tree)
    for row in which:
        tree["annotations"][row]["bbox"] = write(tree["annotations"][row]["bbox"])
    dataset = read(folder, tree)
    _same(dataset, plain)
    assert dataset.fix_counts == {READ: 1}
    assert f"bbox of {len(which)} annotations" in dataset.fixes[0].value
    _same(_fixed_copy(folder, tree, dataset), plain)


NO_BOXES = {
    "two points": [[6, 4], [36, 24]],
    "an angle behind": [6, 4, 30, 20, 45],
    "eight numbers": [6, 4, 36, 4, 36, 24, 6, 24],
    "sides of two kinds": {"x": 6, "y": 4, "w": 30, "height": 20},
    "both notations": {"x": 6, "y": 4, "w": 30, "h": 20, "xmin": 1},
    "a side that is absent": {"x": 6, "y": 4, "w": 30},
    "a side that is null": {"x": 6, "y": 4, "w": 30, "h": None},
    "a flag": {"x": True, "y": 4, "w": 30, "h": 20},
    "a unit": ["6px", "4px", "30px", "20px"],
    "underscores": "1_0 4 30 20",
    "other digits": ["٦", "٤", "٣", "٢"],
    "two lists": [[6, 4, 30, 20], [1, 2, 3, 4]],
    "a long text": "6 4 30 20" + " " * 5000,
}


@pytest.mark.parametrize("box", NO_BOXES.values(), ids=NO_BOXES)
def test_what_may_mean_several_boxes_is_left_out_and_said(folder: Path, box: Any):
    dataset = read(folder, edited(object_(0, bbox=box)))
    assert len(dataset.xywh_px) == 2
    (description,) = dataset.fix_counts
    assert description.startswith("no box of four numbers")


def test_a_text_follows_the_convention_that_was_chosen_and_names_follow_none(folder: Path):
    read(folder, edited(object_(0, bbox="[6, 4, 36, 24]")))
    corners = BoxConvention("xyxy", "pixels")
    dataset = read_coco(folder / "set.json", boxes=corners)
    assert dataset.xywh_px[0].tolist() == [6, 4, 30, 20]
    read(folder, edited(object_(0, bbox={"x": 6, "y": 4, "w": 30, "h": 20})))
    assert len(read_coco(folder / "set.json", boxes=corners).xywh_px) == 2


IDS: dict[str, Callable[[int], Any]] = {
    "UUIDs": lambda number: str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
    "of a database": lambda number: f"65f0c0ffee{number:014d}",
    "names": lambda number: f"img_{number}",
    "some of them numbers": lambda number: number if number % 20 else f"n{number}",
    "some of them digits": lambda number: str(number) if number % 20 else f"n{number}",
}
LISTS = {"images": "image_id", "categories": "category_id", "annotations": None}


@pytest.mark.crossed
@pytest.mark.parametrize("write", IDS.values(), ids=IDS)
@pytest.mark.parametrize("key", LISTS)
def test_ids_may_be_texts(folder: Path, write: Callable[[int], Any], key: str):
    tree = copy.deepcopy(sound())
    for number, record in enumerate(tree[key], start=1):  # so that both kinds are there
        for use in tree["annotations"]:
            if LISTS[key] and use[LISTS[key]] == record["id"]:
                use[f"new {LISTS[key]}"] = write(10 * number)
        record["id"] = write(10 * number)
    for use in tree["annotations"]:
        use |= {name[4:]: use.pop(name) for name in list(use) if name.startswith("new ")}
    plain = sound()
    if key == "categories":  # classes are in the order of their ids, texts in that of the file
        plain["categories"].reverse()
        ids = [each["id"] for each in plain["categories"]]
        for each, id_ in zip(plain["categories"], reversed(ids), strict=True):
            each["id"] = id_
        swap = dict(zip(ids, reversed(ids), strict=True))
        for each in plain["annotations"]:
            each["category_id"] = swap[each["category_id"]]
    expected = read(folder, plain)
    dataset = read(folder, tree)
    _same(dataset, expected)
    assert sum(text.startswith("text instead of a number") for text in dataset.fix_counts) == 1
    _same(_fixed_copy(folder, tree, dataset), expected)


def test_texts_that_no_list_has_are_refused(folder: Path):
    tree = sound()
    for record in tree["categories"]:
        record["id"] = record["name"]
    for record in tree["annotations"]:
        record["category_id"] = "horse"
    with pytest.raises(DataError, match="'category_id' is 'horse'"):
        read(folder, tree)
    tree = edited(object_(0, category_id="dog"))  # by its name, not by its id
    with pytest.raises(DataError, match="'category_id' is 'dog'; it should be an integer"):
        read(folder, tree)


FLAGS = {0: [0, False, 0.0, "0", "false", "False", " 0 "], 1: [1, True, 1.0, "1", "true", "TRUE"]}


@pytest.mark.parametrize(("flag", "written"), [(k, v) for k, each in FLAGS.items() for v in each])
def test_a_flag_may_be_written_in_any_way(folder: Path, flag: int, written: Any):
    assert read(folder, edited(object_(0, iscrowd=written))).crowd[0] == flag


@pytest.mark.parametrize("written", [2, -1, 0.5, "no crowd", "", [], {}, [1], "2", float("nan")])
def test_another_flag_is_refused(folder: Path, written: Any):
    with pytest.raises(DataError, match=r"'iscrowd' is .*; it should be 0 or 1"):
        read(folder, edited(object_(0, iscrowd=written)))


@pytest.mark.parametrize("text", ["250", " 250.0 ", "2.5e2"])
def test_an_area_may_be_a_text(folder: Path, text: str):
    dataset = read(folder, edited(object_(0, area=text)))
    assert dataset.area_px[0] == 250
    assert dataset.fixes == ()


@pytest.mark.parametrize("text", ["", "x", "2,5", "1_0", "٣", "nan", "-1"])
def test_an_area_that_is_no_number_is_that_of_the_box(folder: Path, text: str):
    dataset = read(folder, edited(object_(0, area=text)))
    assert dataset.area_px[0] == 600
    assert dataset.fix_counts == {"absent or no number: width × height": 1}


def test_a_box_may_lie_however_deep_in_lists():
    """Deeper than Python calls functions."""
    box: list[Any] = [1, 2, 3, 4]
    for _ in range(5_000):
        box = [box]
    assert read_notation(box) == [1, 2, 3, 4]
