"""The words of --boxes, and what they make of four numbers."""

from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.data.annotations.box_convention import BoxConvention, Layout, Unit
from setmatch.data.annotations.boxes_in_pixels import to_xywh_px, to_xyxy_px, turned_xywh_px
from setmatch.data.formats.registry import FORMATS, format_named
from setmatch.errors import ConfigError
from written_boxes import CONVENTIONS, written

READ = {
    "xywh": ("coco", "xywh,pixels"),
    "xyxy": ("coco", "xyxy,pixels"),
    "relative": ("coco", "xywh,relative"),
    "cxcywh, relative": ("coco", "cxcywh,relative"),
    "relative,cxcywh": ("panoptic", "cxcywh,relative"),
    "xyxy ": ("yolo", "xyxy,relative"),
    "pixels": ("yolo", "cxcywh,pixels"),
    "keypoints,xyxy": ("yolo", "xyxy,relative,keypoints"),
    "cxcywh": ("voc", "cxcywh,pixels"),
}


@pytest.mark.parametrize(("words", "read"), READ.items(), ids=READ)
def test_words_change_what_they_name_and_leave_the_rest(words: str, read: tuple[str, str]):
    format, convention = read
    assert format_named(format).convention(words).words == convention


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("xyhw", "unknown word 'xyhw'; did you mean xywh?"),
        ("", "unknown word ''; known are xywh, xyxy, cxcywh, yxyx, pixels, relative"),
        ("xyxy,", "unknown word ''"),
        ("xyxy,xywh", "xyxy and xywh exclude each other"),
        ("pixels,relative", "exclude each other"),
        ("polygons", "the format coco has no polygons there"),
    ],
)
def test_wrong_words_are_refused(words: str, message: str):
    with pytest.raises(ConfigError, match=rf"--boxes {words}: .*{message}"):
        format_named("coco").convention(words)


def test_every_built_in_format_takes_other_conventions():
    assert all(each.boxes is not None for each in FORMATS)


@pytest.mark.parametrize("one", CONVENTIONS, ids=lambda each: each.words)
@pytest.mark.parametrize("other", CONVENTIONS, ids=lambda each: each.words)
def test_the_difference_of_two_conventions_leads_from_one_to_the_other(one, other):
    assert one.changed(other.difference_from(one)) == other


BOXES = st.lists(st.tuples(*[st.floats(0, 100)] * 2, *[st.floats(0.5, 100)] * 2), min_size=1)


@given(BOXES, st.integers(1, 3000), st.integers(1, 3000))
def test_a_box_written_in_any_convention_is_read_back(boxes, height: int, width: int):
    xywh_px = np.array(boxes)
    sizes_px = np.tile(np.array([[height, width]], dtype=np.int32), (len(boxes), 1))
    for layout, unit in product(get_args(Layout), get_args(Unit)):
        convention = BoxConvention(layout, unit)
        values = written(xywh_px, sizes_px, convention)
        read = to_xywh_px(convention, values, sizes_px)
        np.testing.assert_allclose(read, xywh_px, atol=1e-9)
        np.testing.assert_allclose(
            to_xyxy_px(convention, values, sizes_px)[:, 2:], read[:, :2] + read[:, 2:]
        )
        one = convention.box_px(values[0].tolist(), (height, width))
        np.testing.assert_array_equal(one, read[0])


def test_the_box_around_a_turned_box_is_that_of_its_corners():
    """An object of 56 × 10 pixels at 60° spans 36.7 × 53.5 pixels (the case of CVAT #4745)."""
    hull = turned_xywh_px(np.array([[20.0, 30, 56, 10]]), np.array([60.0]))
    np.testing.assert_allclose(hull, [[29.67, 8.25, 36.66, 53.5]], atol=0.01)


@given(BOXES, st.floats(-720, 720))
def test_the_box_around_a_turned_box_touches_its_corners(boxes, degrees: float):
    xywh_px = np.array(boxes)
    hull = turned_xywh_px(xywh_px, np.full(len(boxes), degrees))
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for (x, y, w, h), found in zip(xywh_px, hull):
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn.T + (
            x + w / 2,
            y + h / 2,
        )
        low, high = corners.min(axis=0), corners.max(axis=0)
        np.testing.assert_allclose(found, [*low, *(high - low)], atol=1e-9)


@pytest.mark.parametrize("sides", [(-20, 5), (20, -5), (-20, -5), (20, 0), (0, 5), (100, -0.3)])
def test_a_box_without_an_area_gets_none_by_being_turned(sides: tuple[float, float]):
    box = np.array([[30.0, 15.0, *sides]])
    assert turned_xywh_px(box, np.array([30.0])).tolist() == box.tolist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 1e308])
@pytest.mark.parametrize("place", range(5))
def test_boxes_that_are_not_finite_are_turned_without_a_warning(number: float, place: int):
    """They are left out later, as they were read."""
    values = np.array([[10.0, 20, 30, 40, 30]])
    values[0, place] = number
    turned_xywh_px(values[:, :4], values[:, 4])
