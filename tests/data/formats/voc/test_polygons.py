"""Polygons of VOC files, in several notations, beside a box or instead of one; flags, blanks."""

from pathlib import Path

import pytest

from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from small_voc import box, one, write, xml

Points = list[tuple[float, float]]
TRIANGLE: Points = [(6, 4), (36, 8.5), (20, 24)]
HULL = [6, 4, 30, 20]
SECOND: Points = [(40, 30), (50, 30), (50, 36), (40, 36)]


def _numbered(points: Points) -> str:
    parts = enumerate(points, start=1)
    return "".join(f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, (x, y) in parts)


def _nested(tag: str):
    return lambda points: "".join(f"<{tag}><x>{x}</x><y>{y}</y></{tag}>" for x, y in points)


def _labelme(points: Points) -> str:
    inner = "".join(f"<pt><x>{x}</x><y>{y}</y><time>1</time></pt>" for x, y in points)
    return f"<username>me</username>\n{inner}"


NOTATIONS = {"numbered": _numbered, "pt": _nested("pt"), "point": _nested("point"), "me": _labelme}


def _object(inner: str, name: str = "dog") -> str:
    return f"<object><name>{name}</name>{inner}</object>\n"


def _ring(dataset: DetectionDataset) -> list[list[float]]:
    assert dataset.segmentations is not None
    return dataset.segmentations.rings(0)[0].tolist()


@pytest.mark.parametrize("write_points", NOTATIONS.values(), ids=NOTATIONS)
def test_a_polygon_beside_a_box_is_read_and_the_box_counts(tmp_path: Path, write_points):
    polygon = f"<polygon>{write_points(TRIANGLE)}</polygon>"
    dataset = one(tmp_path, xml(box(6, 4, 36, 24, more=polygon)))
    assert dataset.xywh_px.tolist() == [HULL]
    assert _ring(dataset) == [list(point) for point in TRIANGLE]
    assert dataset.fixes == ()


@pytest.mark.parametrize("empty", ["", "<bndbox></bndbox>", "<bndbox/>"])
@pytest.mark.parametrize("write_points", NOTATIONS.values(), ids=NOTATIONS)
def test_a_polygon_alone_has_the_box_around_it(tmp_path: Path, write_points, empty: str):
    dataset = one(tmp_path, xml(_object(f"{empty}<polygon>{write_points(TRIANGLE)}</polygon>")))
    assert dataset.xywh_px.tolist() == [HULL]
    assert dataset.fix_counts == {"no box: the box around its polygons": 1}
    assert _ring(dataset) == [list(point) for point in TRIANGLE]


def test_several_polygons_are_one_object(tmp_path: Path):
    polygons = "".join(f"<polygon>{_numbered(each)}</polygon>" for each in (TRIANGLE, SECOND))
    assert one(tmp_path, xml(_object(polygons))).xywh_px.tolist() == [[6, 4, 44, 32]]


NO_POLYGONS = {
    "two points": _numbered(TRIANGLE[:2]),
    "no number": _numbered(TRIANGLE).replace("36", "x"),
    "not finite": _numbered(TRIANGLE).replace("36", "inf"),
    "a lost y": _nested("pt")(TRIANGLE).replace("<y>24</y>", ""),
    "nothing": "",
}


@pytest.mark.parametrize("points", NO_POLYGONS.values(), ids=NO_POLYGONS)
def test_an_object_of_a_broken_polygon_alone_is_refused(tmp_path: Path, points: str):
    with pytest.raises(DataError, match=r"a\.xml:\d+: object 'dog' has no <xmin> in a <bndbox>"):
        one(tmp_path, xml(_object(f"<polygon>{points}</polygon>")))


def test_a_broken_polygon_among_others_does_not_count(tmp_path: Path):
    inner = f"<polygon>{_numbered(TRIANGLE[:2])}</polygon><polygon>{_numbered(TRIANGLE)}</polygon>"
    dataset = one(tmp_path, xml(_object(inner)))
    assert dataset.xywh_px.tolist() == [HULL]
    assert dataset.fix_counts["polygon without three whole points: left out"] == 1


def test_a_polygon_of_a_part_is_not_the_objects(tmp_path: Path):
    part = f"<part><name>ear</name><polygon>{_numbered(SECOND)}</polygon></part>"
    dataset = one(tmp_path, xml(box(6, 4, 36, 24, more=part)))
    assert (dataset.xywh_px.tolist(), dataset.segmentations) == ([HULL], None)


FLAGS = {True: ["1", "1.0", "true", "Yes", " 1 "], False: ["0", "0.0", "False", "no", "", "2"]}


@pytest.mark.parametrize(("crowd", "text"), [(k, v) for k, each in FLAGS.items() for v in each])
def test_difficult_is_read_in_any_notation(tmp_path: Path, crowd: bool, text: str):
    dataset = one(tmp_path, xml(box(6, 4, 36, 24, more=f"<difficult>{text}</difficult>")))
    assert dataset.crowd.tolist() == [crowd]
    assert ("<difficult> neither 0 nor 1: read as 0" in dataset.fix_counts) == (text == "2")


@pytest.mark.parametrize("before", ["\n", " \r\n\t", "\ufeff\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_blanks_before_the_declaration_do_no_harm(tmp_path: Path, before: str, encoding: str):
    text = before + xml(box(6, 4, 36, 24), head=f'<?xml version="1.0" encoding="{encoding}"?>')
    files = {"Annotations/a.xml": text.encode(encoding), "images/a.png": ""}
    assert open_dataset(write(tmp_path, files), "train").xywh_px.tolist() == [HULL]
