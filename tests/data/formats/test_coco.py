"""COCO JSON: oddities are repaired and listed, or refused with their exact place."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.formats.coco import read_coco
from setmatch.errors import DataError

PHOTOS = ("a.png", "b.png", "c.png")  # 40 high, 60 wide


def sound() -> dict[str, Any]:
    """Return a data set without oddities: two objects in a, a crowd in b, nothing in c."""
    return {
        "images": [
            {"id": 10 * (i + 1), "file_name": name, "height": 40, "width": 60}
            for i, name in enumerate(PHOTOS)
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [
            annotation(1, 10, 18, [6, 4, 30, 20]),
            annotation(2, 10, 3, [0, 0, 60, 40]),
            annotation(3, 20, 3, [0, 0, 30, 20], iscrowd=1),
        ],
    }


def annotation(id_: Any, image: Any, category: Any, bbox: Any, **more: Any) -> dict[str, Any]:
    plain = {"id": id_, "image_id": image, "category_id": category, "bbox": bbox}
    return plain | {"iscrowd": 0, "area": 100.0} | more


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        Image.new("RGB", (60, 40)).save(folder / name)
    return folder


def read(folder: Path, tree: Any):
    (folder / "set.json").write_text(json.dumps(tree))
    return read_coco(folder / "set.json")


def test_classes_come_from_the_file_in_order_of_their_ids(folder: Path):
    """Ids with holes become contiguous slots, and come back as names."""
    index = read(folder, sound())
    assert index.categories.ids == (3, 18)
    assert index.categories.names == ("car", "dog")
    assert index.target(0).classes.tolist() == [1, 0]
    assert index.repairs == ()


def test_targets_are_fractions_without_crowds(folder: Path):
    """Boxes are centre and size as fractions; crowds are for the evaluation only."""
    index = read(folder, sound())
    np.testing.assert_allclose(
        index.target(0).cxcywh, [[0.35, 0.35, 0.5, 0.5], [0.5, 0.5, 1, 1]], atol=1e-6
    )
    assert len(index.target(1)) == 0
    assert len(index.target(2)) == 0
    assert index.crowd.tolist() == [False, False, True]
    assert index.annotation_ids.tolist() == [1, 2, 3]


def test_rows_are_grouped_by_image_whatever_their_order(folder: Path):
    """Offsets point at each image's own annotations."""
    tree = sound()
    tree["annotations"].reverse()
    index = read(folder, tree)
    assert index.offsets.tolist() == [0, 2, 3, 3]
    assert index.annotation_ids.tolist() == [2, 1, 3]
    assert [index.name(i) for i in range(3)] == list(PHOTOS)
    assert index.path(1) == folder / "b.png"


BOX = {
    "not finite: left out": [[float("nan"), 0, 5, 5], [0, 0, float("inf"), 5], [1, None, 2, 2]],
    "negative width or height: left out": [[10, 10, -5, 5], [10, 10, 5, -5]],
    "without area: left out of training": [[10, 10, 0, 5], [10, 10, 5, 0], [0, 0, 0, 0]],
    "outside the image: left out of training": [[60, 0, 5, 5], [-9, 0, 9, 5], [500, 500, 5, 5]],
    "passes the image's edge: clipped in training": [
        [-5, 0, 20, 10],
        [50, 30, 20, 20],
        [-9, -9, 900, 900],
    ],
}


@pytest.mark.parametrize(
    ("done", "bbox"), [(done, bbox) for done, boxes in BOX.items() for bbox in boxes]
)
def test_odd_boxes_are_repaired_and_named(folder: Path, done: str, bbox: list[Any]):
    """Each is listed with its image, annotation id, value and what was done about it."""
    tree = sound()
    tree["annotations"].append(annotation(77, 30, 3, bbox))
    index = read(folder, tree)
    (repair,) = index.repairs
    assert (repair.file, repair.annotation) == ("c.png", 77)
    assert done in repair.done
    assert "bbox [" in repair.value
    assert len(index.target(2)) == ("clipped" in done)
    assert (77 in index.annotation_ids) == ("training" in done)
    assert ((index.target(2).cxcywh >= 0) & (index.target(2).cxcywh <= 1)).all()


def test_boxes_that_pass_the_edge_by_rounding_are_not_odd(folder: Path):
    """Half a pixel over the edge is clipped without a word."""
    tree = sound()
    tree["annotations"].append(annotation(77, 30, 3, [-0.4, 0, 60.6, 40.2]))
    index = read(folder, tree)
    assert index.repairs == ()
    assert index.target(2).cxcywh.tolist() == [[0.5, 0.5, 1.0, 1.0]]


def edit(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    tree = copy.deepcopy(sound())
    change(tree)
    return tree


REPAIRED = {
    "absent annotation id": (lambda t: t["annotations"][0].pop("id"), "given a free one"),
    "repeated annotation id": (lambda t: t["annotations"][0].update(id=2), "given a free one"),
    "annotation listed twice": (
        lambda t: t["annotations"].append(t["annotations"][0]),
        "listed twice",
    ),
    "image listed twice": (lambda t: t["images"].append(t["images"][0]), "listed twice"),
    "category listed twice": (lambda t: t["categories"].append(t["categories"][0]), "listed twice"),
    "unknown image": (lambda t: t["annotations"][0].update(image_id=99), "not listed"),
    "no iscrowd": (lambda t: t["annotations"][0].pop("iscrowd"), "read as 0"),
    "no area": (lambda t: t["annotations"][0].pop("area"), "width × height"),
    "NaN area": (lambda t: t["annotations"][0].update(area=float("nan")), "width × height"),
    "area as text": (lambda t: t["annotations"][0].update(area="big"), "width × height"),
    "no image size": (lambda t: t["images"][0].pop("height"), "read from the image file"),
    "zero image size": (lambda t: t["images"][0].update(width=0), "read from the image file"),
    "ids as text": (lambda t: t["images"][0].update(id="10"), "read as whole number"),
    "ids as fractions": (lambda t: t["annotations"][0].update(id=1.0), "read as whole number"),
    "name used twice": (lambda t: t["categories"][0].update(name="car"), "given a new one"),
}


@pytest.mark.parametrize(("change", "done"), REPAIRED.values(), ids=REPAIRED)
def test_harmless_oddities_are_repaired_and_listed(folder: Path, change, done: str):
    """The data set opens, and the report says what was done."""
    index = read(folder, edit(change))
    (repair,) = index.repairs
    assert done in repair.done
    assert index.repair_counts == {repair.done: 1}
    assert len(np.unique(index.annotation_ids)) == len(index.annotation_ids)
    assert len(set(index.categories.names)) == 2
    assert index.sizes_px.tolist() == [[40, 60]] * 3


FINE = {
    "annotation id 0": lambda t: t["annotations"][0].update(id=0),
    "image id 0": lambda t: t["images"][2].update(id=0),
    "ids beyond 2^53": lambda t: t["annotations"][0].update(id=2**53 + 1),
    "negative ids": lambda t: t["annotations"][0].update(id=-7),
    "no annotations": lambda t: t["annotations"].clear(),
    "polygons": lambda t: t["annotations"][0].update(segmentation=[[0, 0, 1, 1, 2, 0]]),
    "RLE": lambda t: t["annotations"][2].update(segmentation={"counts": [0, 9], "size": [40, 60]}),
    "no info": lambda t: t.pop("info", None),
    "iscrowd as boolean": lambda t: t["annotations"][2].update(iscrowd=True),
    "crowd only": lambda t: t.update(annotations=t["annotations"][2:]),
}


@pytest.mark.parametrize("change", FINE.values(), ids=FINE)
def test_unusual_but_sound_files_need_no_repair(folder: Path, change):
    """What is merely rare is read as it is."""
    tree = edit(change)
    index = read(folder, tree)
    assert index.repairs == ()
    assert index.annotation_ids.tolist() == [row["id"] for row in tree["annotations"]]
    assert index.image_ids.tolist() == [row["id"] for row in tree["images"]]


REFUSED = {
    "unknown category": (
        lambda t: t["annotations"][1].update(category_id=4),
        r"annotations\[1\] \(id 2\): category_id 4 is none of the 2",
    ),
    "no category": (
        lambda t: t["annotations"][1].pop("category_id"),
        r"annotations\[1\].* has no 'category_id'",
    ),
    "no box": (lambda t: t["annotations"][1].pop("bbox"), r"annotations\[1\].* no 'bbox'"),
    "box of three": (
        lambda t: t["annotations"][1].update(bbox=[1, 2, 3]),
        r"annotations\[1\].*'bbox' is \[1, 2, 3\]",
    ),
    "box of texts": (lambda t: t["annotations"][0].update(bbox=["1"] * 4), "four numbers"),
    "image id as name": (lambda t: t["images"][1].update(id="b"), r"images\[1\].*'id' is 'b'"),
    "id beyond 64 bits": (lambda t: t["images"][1].update(id=2**63), r"images\[1\].*64 bits"),
    "boolean id": (lambda t: t["images"][1].update(id=True), r"images\[1\].* whole number"),
    "image id used twice": (lambda t: t["images"][1].update(id=10), "image id of 'a.png'"),
    "category id used twice": (lambda t: t["categories"][1].update(id=18), "category id of 'dog'"),
    "no category name": (lambda t: t["categories"][1].pop("name"), r"categories\[1\].*'name'"),
    "no file name": (lambda t: t["images"][1].pop("file_name"), r"images\[1\].*'file_name'"),
    "half a surrogate": (lambda t: t["images"][1].update(file_name="\ud800"), r"images\[1\]"),
    "parent folder": (lambda t: t["images"][1].update(file_name="../b.png"), "leads out"),
    "hidden parent": (lambda t: t["images"][1].update(file_name="x/../../b.png"), "leads out"),
    "absolute path": (lambda t: t["images"][1].update(file_name="/etc/passwd"), "leads out"),
    "drive": (lambda t: t["images"][1].update(file_name="C:\\b.png"), "leads out"),
    "windows parent": (lambda t: t["images"][1].update(file_name="..\\b.png"), "leads out"),
    "missing files": (
        lambda t: [i.update(file_name=f"{i['id']}.z") for i in t["images"][1:]],
        r"2 of 3 .*20\.z, 30\.z",
    ),
    "odd iscrowd": (lambda t: t["annotations"][0].update(iscrowd=2), r"annotations\[0\].* 0 or 1"),
    "no images": (lambda t: t["images"].clear(), "lists no images"),
    "no categories": (lambda t: t["categories"].clear(), "lists no categories"),
    "no list of annotations": (lambda t: t.pop("annotations"), "no list 'annotations'"),
    "images as object": (lambda t: t.update(images={"a": 1}), "not a list"),
    "image as number": (lambda t: t["images"].append(3), r"images\[3\] is 3, not an object"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_files_are_refused_with_their_place(folder: Path, change, message: str):
    """What could teach the wrong thing stops at once, in one line that names file and place."""
    with pytest.raises(DataError, match=message) as caught:
        read(folder, edit(change))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        json.dumps(sound()).encode()[:300],
        b'{"images": \xff}',
        b"[" * 100_000,
        b'{"images": [{"id": ' + b"9" * 5000 + b"}]}",
    ],
    ids=["empty", "list", "null", "cut", "not UTF-8", "deep", "huge number"],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes):
    """A damaged file is named, in one line."""
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.json") as caught:
        read_coco(tmp_path / "bad.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(folder: Path, encoding: str):
    """Files that Windows tools wrote are read."""
    (folder / "set.json").write_text(json.dumps(sound()), encoding=encoding)
    assert len(read_coco(folder / "set.json")) == 3


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0, 10, 20, 3, 18, 2**53, 2**63, "10", "a.png", "", "../a.png", [], {}])
    | st.text(max_size=4)
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5), max_leaves=8)
KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_json_raises_anything_but_data_errors(folder: Path, data: st.DataObject):
    """Whatever values stand where, the file opens with targets inside images, or is refused."""
    tree = sound()
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(st.sampled_from(["images", "categories", "annotations"]))
        if not isinstance(tree.get(key), list) or not tree[key]:
            continue
        row = data.draw(st.integers(0, len(tree[key]) - 1))
        if not isinstance(tree[key][row], dict):
            continue
        names = ("file_name", "name", "height", "width", *KEYS)
        name = data.draw(st.sampled_from(names))
        box = st.lists(st.floats() | st.integers() | st.none(), min_size=4, max_size=4)
        tree[key][row] = tree[key][row] | {name: data.draw(JSON | box)}
    try:
        index = read(folder, tree)
    except DataError:
        return
    for image in range(len(index)):
        cxcywh = index.target(image).cxcywh
        assert ((cxcywh >= 0) & (cxcywh <= 1)).all()
    assert len(np.unique(index.annotation_ids)) == len(index.annotation_ids)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_of_ten_thousand_no_json_raises_anything_but_data_errors(folder: Path, data: st.DataObject):
    """The same claim, in the number of cases that is promised."""
    test_no_json_raises_anything_but_data_errors.hypothesis.inner_test(folder, data)
