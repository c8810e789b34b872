"""VOC boxes that are turned, or of another convention, are read as they are meant."""

import math
from pathlib import Path

import pytest

from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from small_voc import box, one, write, xml

TURNED = "box turned by its rotation: read as the box around it"


def attributes(**values: object) -> str:
    pairs = (f"<name>{name}</name><value>{value}</value>" for name, value in values.items())
    inner = "".join(f"<attribute>{pair}</attribute>" for pair in pairs)
    return f"<attributes>{inner}</attributes>"


@pytest.mark.parametrize("order", [1, -1])
def test_a_turned_box_is_read_as_the_box_around_it(tmp_path: Path, order: int):
    """CVAT writes the rotation among the attributes; their order is free."""
    more = attributes(**dict([("occluded", "False"), ("rotation", "90.0")][::order]))
    dataset = one(tmp_path, xml(box(6, 4, 36, 24, more=more), box(6, 4, 36, 24, name="cat")))
    assert dataset.xywh_px.round(6).tolist() == [[11, -1, 20, 30], [6, 4, 30, 20]]
    assert [
        (fix.file, fix.line, fix.value) for fix in dataset.fixes if fix.description == TURNED
    ] == [("a.xml", 4, "rotation 90")]


def turned_box(**sides: object) -> str:
    values = "".join(f"<{name}>{value}</{name}>" for name, value in sides.items())
    return f"<object><type>robndbox</type><name>cat</name><robndbox>{values}</robndbox></object>"


@pytest.mark.parametrize("turns", [0.0, 0.25, 0.5, 1.0, -0.25, 3 / 8, 7.25])
def test_a_box_of_rolabelimg_is_read_as_the_box_around_it(tmp_path: Path, turns: float):
    """With its center, size and angle in radians; others of the file are as usual."""
    angle = turns * math.pi
    sides = {"cx": 30, "cy": 20, "w": 20, "h": 10, "angle": repr(angle)}
    dataset = one(tmp_path, xml(turned_box(**sides), box(6, 4, 36, 24, name="cat")))
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = 20 * cos + 10 * sin, 20 * sin + 10 * cos
    hull = [30 - width / 2, 20 - height / 2, width, height]
    assert dataset.xywh_px[0].tolist() == pytest.approx(hull)
    assert dataset.xywh_px[1].tolist() == [6, 4, 30, 20]
    (fix,) = (each for each in dataset.fixes if each.description == TURNED)
    assert (fix.file, fix.value[:22]) == ("a.xml", "robndbox [30, 20, 20, ")


@pytest.mark.parametrize("missing", ["cx", "cy", "w", "h", "angle"])
def test_a_turned_box_without_a_number_is_refused(tmp_path: Path, missing: str):
    sides = {"cx": 30, "cy": 20, "w": 20, "h": 10, "angle": 0.1}
    for problem, changed in (("has no", {**sides}), ("is 'x'; it should", sides | {missing: "x"})):
        if problem == "has no":
            del changed[missing]
        with pytest.raises(DataError, match=rf"a\.xml:\d+: object 'cat'.*{problem}|<{missing}>"):
            one(tmp_path / problem[:3], xml(turned_box(**changed)))


def test_a_rotation_beside_the_box_turns_it_too(tmp_path: Path):
    dataset = one(tmp_path, xml(box(6, 4, 36, 24, more="<rotation>90</rotation>")))
    assert dataset.xywh_px.round(6).tolist() == [[11, -1, 20, 30]]
    assert [fix.description for fix in dataset.fixes if "turned" in fix.description] == [TURNED]


@pytest.mark.parametrize(("word", "crowd"), [("True", True), ("yes", True), ("false", False)])
def test_difficult_may_be_a_word(tmp_path: Path, word: str, crowd: bool):
    text = xml(box(6, 4, 36, 24, more=f"<difficult>{word}</difficult>"))
    assert one(tmp_path, text).crowd.tolist() == [crowd]


@pytest.mark.parametrize("rotation", ["0.0", "180", "", "left", "nan", "inf", "1_0x"])
def test_other_rotations_leave_the_box(tmp_path: Path, rotation: str):
    dataset = one(tmp_path, xml(box(6, 4, 36, 24, more=attributes(rotation=rotation))))
    assert dataset.xywh_px.tolist() == [[6, 4, 30, 20]]
    assert dataset.fixes == ()


def test_a_rotation_of_a_part_is_not_that_of_the_object(tmp_path: Path):
    part = f"<part><name>head</name>{attributes(rotation=90)}</part>"
    assert one(tmp_path, xml(box(6, 4, 36, 24, more=part))).xywh_px.tolist() == [[6, 4, 30, 20]]


@pytest.mark.parametrize(
    ("corners", "boxes"),
    [((6, 4, 30, 20), "xywh"), ((21, 14, 30, 20), "cxcywh"), ((0.1, 0.1, 0.6, 0.6), "relative")],
)
def test_other_conventions_are_read_when_named(tmp_path: Path, corners, boxes: str):
    write(tmp_path, {"Annotations/a.xml": xml(box(*corners)), "images/a.png": ""})
    dataset = open_dataset(tmp_path, "train", boxes=boxes)
    assert dataset.xywh_px.round(9).tolist() == [[6, 4, 30, 20]]


def test_xml_nested_deeper_than_any_voc_file_is_refused(tmp_path: Path):
    """Every element costs as much as its depth."""
    deep = "<a>" * 200 + "</a>" * 200
    with pytest.raises(DataError, match="nested more than 100 elements deep"):
        one(tmp_path, xml(box(6, 4, 36, 24, more=deep)))
