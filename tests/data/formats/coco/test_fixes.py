"""Malformed COCO files that are fixed: each kind of flaw, and the fix that is reported."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from setmatch.data.formats.coco.read import read_categories
from setmatch.data.formats.coco.schema import CategoryRecord
from setmatch.data.formats.columns import Records
from small_coco import (
    IMAGE_NAMES,
    Change,
    again,
    category,
    edited,
    image,
    object_,
    read,
    without,
    write_images,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


NOT_FINITE, NEGATIVE = "box not finite: left out", "box of negative width or height: left out"
NO_BOX = "no box of four numbers, and no segmentation: left out"
FLAT = "box without area: left out of training"
OUTSIDE = "box outside the image: left out of training"
OVER = "box crosses the image's edge: clipped in training"
REWRITTEN = "written as text or fraction: read as integer"
NO_AREA = "absent or no number: width × height"
NO_SEGMENTATION = "segmentation neither polygons nor run lengths: left out"
FREE_ID = "id absent or taken: given a free one"
SIZE = "size read from the image file"
RUNS = {"counts": [0, 9, 2391], "size": [40, 60]}
BIG = 10**400  # larger than any float

# (file, annotation id, value, what was done): all of a fix.
Expected = tuple[str, int | None, str, str]
BOXES: Mapping[str, tuple[list[Any], str, str]] = {
    "NaN": ([float("nan"), 0, 5, 5], "nan, 0, 5, 5", NOT_FINITE),
    "infinite": ([0, 0, float("inf"), 5], "0, 0, inf, 5", NOT_FINITE),
    "null in it": ([1, None, 2, 2], "1, nan, 2, 2", NOT_FINITE),
    "beyond every float": ([BIG, 0, 5, 5], "inf, 0, 5, 5", NOT_FINITE),
    "of infinite area": ([0, 0, 1e200, 1e200], "0, 0, 1e+200, 1e+200", NOT_FINITE),
    "negative width": ([10, 10, -5, 5], "10, 10, -5, 5", NEGATIVE),
    "negative height": ([10, 10, 5, -5], "10, 10, 5, -5", NEGATIVE),
    "no width": ([10, 10, 0, 5], "10, 10, 0, 5", FLAT),
    "no height": ([10, 10, 5, 0], "10, 10, 5, 0", FLAT),
    "nothing": ([0, 0, 0, 0], "0, 0, 0, 0", FLAT),
    "right of it": ([60, 0, 5, 5], "60, 0, 5, 5", OUTSIDE),
    "left of it": ([-9, 0, 9, 5], "-9, 0, 9, 5", OUTSIDE),
    "far away": ([500, 500, 5, 5], "500, 500, 5, 5", OUTSIDE),
    "out of sight": ([1e300, 0, 1e300, 5], "1e+300, 0, 1e+300, 5", OUTSIDE),
    "over the left": ([-5, 0, 20, 10], "-5, 0, 20, 10", OVER),
    "over the corner": ([50, 30, 20, 20], "50, 30, 20, 20", OVER),
    "around it": ([-9, -9, 900, 900], "-9, -9, 900, 900", OVER),
}
FIXED: Mapping[str, tuple[Change, Expected]] = {
    **{
        f"box {kind}": (object_(1, bbox=box), ("a.png", 2, f"bbox [{value}]", done))
        for kind, (box, value, done) in BOXES.items()
    },
    "no box": (without("annotations", 1, "bbox"), ("a.png", 2, "bbox None", NO_BOX)),
    **{
        f"box {kind}": (object_(1, bbox=box), ("a.png", 2, f"bbox {box!r}", NO_BOX))
        for kind, box in {
            "null": None,
            "empty": [],
            "of three": [1, 2, 3],
            "of five": [1, 2, 3, 4, 5],
            "of words": ["1", "2", "3", "four"],
            "of decimal commas": ["1,5", "2,5", "3,5", "4,5"],
            "of points": [[1, 2], [3, 4]],
            "of booleans": [True, 2, 3, 4],
            "an object": {"x": 1},
            "an object of two minds": {"x": 1, "y": 2, "width": 3, "height": 4, "xmax": 5},
            "a text": "1 2 3",
            "a number": 7,
        }.items()
    },
    "no annotation id": (
        without("annotations", 0, "id"),
        ("a.png", None, "bbox [6, 4, 30, 20]", FREE_ID),
    ),
    "null annotation id": (object_(0, id=None), ("a.png", None, "bbox [6, 4, 30, 20]", FREE_ID)),
    "taken annotation id": (object_(0, id=2), ("a.png", 2, "bbox [0, 0, 60, 40]", FREE_ID)),
    "annotation twice": (
        again("annotations", 0),
        ("a.png", 1, "bbox [6, 4, 30, 20]", "listed twice: read once"),
    ),
    "object twice": (
        again("annotations", 0, id=9),
        ("a.png", 9, "bbox [6, 4, 30, 20]", "the same box and class again: kept"),
    ),
    "image twice": (again("images", 0), ("a.png", None, "image 10", "listed twice: read once")),
    "category twice": (
        again("categories", 0),
        ("", None, "categories[2] (id 18) 'dog'", "listed twice: read once"),
    ),
    "class name twice": (
        category(0, name="car"),
        (
            *("", None, "category 18 'car' -> 'car (2)'"),
            "name of another category: given a new one",
        ),
    ),
    "unknown image": (
        object_(0, image_id=99),
        ("", 1, "image_id 99", "of an image that is not listed: left out"),
    ),
    "unknown image and no id": (
        lambda tree: (object_(0, image_id=99)(tree), without("annotations", 0, "id")(tree)),
        (
            *("", None, "image_id 99 of annotations[0]"),
            "of an image that is not listed: left out",
        ),
    ),
    "no iscrowd": (
        without("annotations", 1, "iscrowd"),
        (
            "",
            None,
            "iscrowd of 1 annotations, the first annotations[1] (id 2)",
            "absent: read as 0",
        ),
    ),
    **{
        f"area {kind}": (
            change,
            ("", None, "area of 1 annotations, the first annotations[1] (id 2)", NO_AREA),
        )
        for kind, change in {
            "absent": without("annotations", 1, "area"),
            "NaN": object_(1, area=float("nan")),
            "a text": object_(1, area="big"),
            "negative": object_(1, area=-4),
            "beyond every float": object_(1, area=BIG),
        }.items()
    },
    "no height": (without("images", 1, "height"), ("b.png", None, "height 0, width 60", SIZE)),
    "no size": (
        without("images", 1, "height", "width"),
        ("b.png", None, "height 0, width 0", SIZE),
    ),
    "zero width": (image(1, width=0), ("b.png", None, "height 40, width 0", SIZE)),
    "negative width": (image(1, width=-60), ("b.png", None, "height 40, width -60", SIZE)),
    "absurd width": (image(1, width=2**40), ("b.png", None, f"height 40, width {2**40}", SIZE)),
    **{
        f"{kind} as text": (change, ("", None, f"{value} (id {id_})", REWRITTEN))
        for kind, (change, value, id_) in {
            "image id": (image(0, id="10"), "id of 1 images, the first images[0]", "'10'"),
            "height": (image(1, height="40"), "height of 1 images, the first images[1]", 20),
            "category id": (
                *(category(1, id="3"), "id of 1 categories, the first categories[1]"),
                "'3'",
            ),
            "annotation id": (
                *(object_(1, id="2"), "id of 1 annotations, the first annotations[1]"),
                "'2'",
            ),
            "image_id": (
                *(object_(1, image_id="10"), "image_id of 1 annotations, the first annotations[1]"),
                2,
            ),
            "category_id": (
                object_(1, category_id="3"),
                *("category_id of 1 annotations, the first annotations[1]", 2),
            ),
        }.items()
    },
    "annotation ids as fractions": (
        lambda tree: [each.update(id=float(each["id"])) for each in tree["annotations"]],
        ("", None, "id of 3 annotations, the first annotations[0] (id 1.0)", REWRITTEN),
    ),
    **{
        f"segmentation {kind}": (object_(1, segmentation=segmentation), ("a.png", 2, value, done))
        for kind, (segmentation, value, done) in {
            "a list of run lengths": ([RUNS], json.dumps([RUNS]), NO_SEGMENTATION),
            "an odd flat list": ([1, 2, 3, 4, 5], "[1, 2, 3, 4, 5]", NO_SEGMENTATION),
            "a number": (7, "7", NO_SEGMENTATION),
            "without a size": ({"counts": [0, 9]}, '{"counts": [0, 9]}', NO_SEGMENTATION),
            "of two points": (
                *([[1, 2, 3, 4]], "polygon of 4 numbers"),
                "polygon without three whole points: left out",
            ),
            "not finite": (
                *([[1e300] * 6], "polygon not finite"),
                "segmentation with such points: left out",
            ),
            "of another size": (
                *(RUNS | {"size": [4, 6]}, '{"counts": [0, 9, 2391], "size": [4, 6]}'),
                "run lengths of another size than the image: left out",
            ),
            "that is no run lengths": (
                *(RUNS | {"counts": "not runs"}, '{"counts": "not runs", "size": [40, 60]}'),
                "run lengths that cannot be read: left out",
            ),
            "that runs on": (
                *(RUNS | {"counts": [0, 5000]}, '{"counts": [0, 5000], "size": [40, 60]}'),
                "run lengths that cannot be read: left out",
            ),
        }.items()
    },
}


@pytest.mark.parametrize(("change", "expected"), FIXED.values(), ids=FIXED)
def test_each_harmless_flaw_is_fixed_and_reported_once(
    folder: Path, change: Change, expected: Expected
):
    """The fix has the image or place, annotation id, value and action; nothing else changes."""
    dataset = read(folder, edited(change))
    (fix,) = dataset.fixes
    assert (fix.file, fix.annotation, fix.value, fix.description) == expected
    assert dataset.fix_counts == {fix.description: 1}
    assert len(np.unique(dataset.annotation_ids)) == len(dataset.annotation_ids)
    gone = expected[3] in (NOT_FINITE, NEGATIVE, NO_BOX) or expected[3].startswith("of an image")
    assert len(dataset.annotation_ids) == 3 - gone + (expected[3].endswith("kept"))
    assert [dataset.name(number) for number in range(3)] == list(IMAGE_NAMES)
    assert len(set(dataset.categories.names)) == 2
    assert dataset.sizes_px.tolist() == [[40, 60]] * 3
    not_a_target = gone or expected[3] in (FLAT, OUTSIDE)
    assert len(dataset.target(0)) == 2 - not_a_target + expected[3].endswith("kept")
    for number in range(3):
        cxcywh = dataset.target(number).cxcywh
        assert ((cxcywh >= 0) & (cxcywh <= 1)).all()


def test_more_than_forty_kinds_of_flaws_are_fixed():
    assert len(FIXED) > 40


FINE: Mapping[str, Change] = {
    "annotation id 0": object_(0, id=0),
    "image id 0": image(2, id=0),
    "category id 0": lambda tree: (category(0, id=0)(tree), object_(0, category_id=0)(tree)),
    "annotation ids beyond 2^53": lambda tree: (
        object_(0, id=2**53 + 1)(tree),
        object_(1, id=2**53)(tree),
    ),
    "image ids beyond 2^53": lambda tree: (
        image(2, id=2**53)(tree),
        image(0, id=2**53 + 1)(tree),
        *(object_(row, image_id=2**53 + 1)(tree) for row in (0, 1)),
    ),
    "category ids beyond 2^53": lambda tree: (
        category(0, id=2**53 + 1)(tree),
        object_(0, category_id=2**53 + 1)(tree),
        category(1, id=2**53)(tree),
        *(object_(row, category_id=2**53)(tree) for row in (1, 2)),
    ),
    "negative ids": object_(0, id=-7),
    "no annotations": lambda tree: tree["annotations"].clear(),
    "crowd only": lambda tree: tree.update(annotations=tree["annotations"][2:]),
    "iscrowd as boolean": object_(2, iscrowd=True),
    "polygons": object_(0, segmentation=[[0, 0, 1, 1, 2, 0]]),
    "run lengths as list": object_(0, segmentation=RUNS),
    "no segmentation": object_(0, segmentation=[]),
    "info": lambda tree: tree.update(info={"year": 2026}, licenses=[]),  # absent in the other files
    "keys nobody knows": lambda tree: [
        each.update(extra={"bbox": 1}) for rows in tree.values() for each in rows
    ],
}


@pytest.mark.parametrize("change", FINE.values(), ids=FINE)
def test_unusual_but_valid_files_are_read_without_a_fix(folder: Path, change: Change):
    """Every id is kept to the last bit."""
    tree = edited(change)
    dataset = read(folder, tree)
    assert dataset.fixes == ()
    assert dataset.annotation_ids.tolist() == [row["id"] for row in tree["annotations"]]
    assert dataset.image_ids.tolist() == [row["id"] for row in tree["images"]]
    assert dataset.categories.ids == tuple(sorted(row["id"] for row in tree["categories"]))
    images = np.repeat(dataset.image_ids, np.diff(dataset.offsets)).tolist()
    assert images == [row["image_id"] for row in tree["annotations"]]
    ids = [dataset.categories.ids[class_index] for class_index in dataset.class_indices.tolist()]
    assert ids == [row["category_id"] for row in tree["annotations"]]


def nested(value: Any, levels: int, key: str | None = None) -> Any:
    for _ in range(levels):
        value = [value] if key is None else {key: value}
    return value


@pytest.mark.parametrize("parser", ["fast", "slow"])
@pytest.mark.parametrize(
    "segmentation",
    [
        nested([], 1, "segmentation"),
        nested(RUNS, 3, "segmentation"),
        nested([[1, 2, 3, 4, 5, 6]], 400, "segmentation"),
        nested([], 300),
        nested(1, 50, "counts"),
        {"segmentation": {"counts": {"segmentation": []}, "size": [40, 60]}},
        [{"segmentation": [[1, 2, 3, 4, 5, 6]]}],
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_nested_segmentations_are_left_out(folder: Path, parser: str, segmentation: Any):
    """The slow parser reads files that only Python's own JSON accepts, such as one with NaN."""
    area = float("nan") if parser == "slow" else 5
    dataset = read(folder, edited(object_(1, segmentation=segmentation, area=area)))
    assert NO_SEGMENTATION in dataset.fix_counts
    assert len(dataset.xywh_px) == 3


@pytest.mark.parametrize(
    "name", [lambda i: "x", lambda i: ("x", "x (2)")[i % 2], lambda i: f"x ({i})" if i % 2 else "x"]
)
def test_many_categories_of_one_name_are_told_apart_in_linear_time(name: Callable[[int], str]):
    """Each name was compared with all others: 20,000 took minutes, and the test's time ran out."""
    categories = Records(
        Path("set.json"),
        "categories",
        [CategoryRecord(id=i, name=name(i)) for i in range(20_000)],
    )
    names = read_categories(categories, []).names
    assert len(set(names)) == 20_000
    assert names[:2] == (name(0), name(1) if name(1) != "x" else "x (2)")
