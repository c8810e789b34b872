"""VOC boxes of x, y, width and height are read by the names of their sides."""

from pathlib import Path

import pytest

from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from small_voc import box, one, write, xml

DONE = "box of x, y, width and height: read"
SIDES = [
    ("xmin", "ymin", "width", "height"),
    ("xmin", "ymin", "w", "h"),
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("left", "top", "width", "height"),
    ("X", "Y", "Width", "Height"),
]


def sized(names: tuple[str, ...], *values: object, name: str = "dog") -> str:
    inner = "".join(f"<{side}>{value}</{side}>" for side, value in zip(names, values, strict=True))
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>\n"


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "backwards"])
@pytest.mark.parametrize("names", SIDES, ids="-".join)
def test_sizes_are_read_beside_corners(tmp_path: Path, names: tuple[str, ...], order: int):
    values = (6.1, 4, 0.2, "20.5")
    text = sized(names[::order], *values[::order])
    dataset = one(tmp_path, xml(text, box(6, 4, 36, 24, name="cat")))
    assert dataset.xywh_px.tolist() == [[6.1, 4, 0.2, 20.5], [6, 4, 30, 20]]
    (fix,) = (each for each in dataset.fixes if each.description == DONE)
    assert (fix.file, fix.line) == ("a.xml", 4)


@pytest.mark.parametrize(
    "names", [("Xmin", "Ymin", "Xmax", "Ymax"), ("XMIN", "YMIN", "XMAX", "YMAX")]
)
def test_sides_may_be_written_in_capitals(tmp_path: Path, names: tuple[str, ...]):
    assert one(tmp_path, xml(sized(names, 6, 4, 36, 24))).xywh_px.tolist() == [[6, 4, 30, 20]]


@pytest.mark.parametrize(
    "names",
    [
        *(("x", "y", "w", "height"), ("x", "y", "xmax", "ymax"), ("cx", "cy", "w", "h")),
        *(("xmin", "ymin", "xmax", "height"), ("x", "top", "width", "height")),
    ],
    ids="-".join,
)
def test_other_sides_are_refused(tmp_path: Path, names: tuple[str, ...]):
    with pytest.raises(DataError, match=r"a\.xml:4: object 'dog' has no <\w+> in a <bndbox>"):
        one(tmp_path, xml(sized(names, 6, 4, 30, 20)))


def test_a_size_that_is_no_number_is_refused_by_its_name(tmp_path: Path):
    with pytest.raises(DataError, match=r"object 'dog': <w> is 'wide'; it should be a number"):
        one(tmp_path, xml(sized(("x", "y", "w", "h"), 6, 4, "wide", 20)))


@pytest.mark.parametrize("center", [True, False])
def test_centers_are_asked_about_where_no_other_reading_fits(tmp_path: Path, center: bool):
    names = ("x", "y", "w", "h")
    boxes = [(50, 30, 20, 20), (40, 20, 36, 30), (10, 10, 20, 20)]
    low = boxes if center else [(x - w / 2, y - h / 2, w, h) for x, y, w, h in boxes]
    text = xml(*(sized(names, *each) for each in low))
    root = write(tmp_path, {"Annotations/a.xml": text, "images/a.png": ""})
    expected = [[40, 20, 20, 20], [22, 5, 36, 30], [0, 0, 20, 20]]
    if not center:
        assert open_dataset(root, "train").xywh_px.tolist() == expected
        return
    with pytest.raises(DataError, match=r"2 of 3 boxes leave their image.*--boxes cxcywh"):
        open_dataset(root, "train")
    assert open_dataset(root, "train", boxes="cxcywh").xywh_px.tolist() == expected
    assert open_dataset(root, "train", boxes="xywh").xywh_px.tolist() == [list(b) for b in boxes]


@pytest.mark.parametrize("tag", ["angle", "rotation"])
@pytest.mark.parametrize("way", ["attribute", "beside"])
def test_an_angle_turns_the_box(tmp_path: Path, tag: str, way: str):
    value = f"<attributes><attribute><name>{tag}</name><value>90</value></attribute></attributes>"
    more = value if way == "attribute" else f"<{tag}>90</{tag}>"
    dataset = one(tmp_path, xml(box(6, 4, 36, 24, more=more)))
    assert dataset.xywh_px.round(6).tolist() == [[11, -1, 20, 30]]


@pytest.mark.parametrize("angle", ["1.5708", "-0.3", "6.2"])
def test_angles_that_may_be_radians_are_refused(tmp_path: Path, angle: str):
    with pytest.raises(DataError, match=r"'angle' may be in radians.*call it 'rotation'"):
        one(tmp_path, xml(box(6, 4, 36, 24, more=f"<angle>{angle}</angle>")))


@pytest.mark.parametrize("tag", ["angle", "rotation"])
def test_angles_that_probably_turn_nothing_are_asked_about(tmp_path: Path, tag: str):
    """All are right angles, by which nobody turns a box. A rotation turns it."""
    objects = [box(20 + i, 15, 32 + i, 21, more=f"<{tag}>{90 + 180 * i}</{tag}>") for i in range(6)]
    if tag == "angle":
        with pytest.raises(DataError, match="'angle' probably does not turn boxes: all 6"):
            one(tmp_path, xml(*objects))
    else:
        dataset = one(tmp_path, xml(*objects))
        assert dataset.xywh_px.round(6).tolist() == [[23 + i, 12, 6, 12] for i in range(6)]
