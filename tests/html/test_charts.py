"""Charts: bars and curves are drawn where their values are, and names stay text."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from setmatch.html.charts import (
    DASHES,
    Axis,
    Chart,
    Curve,
    LogAxis,
    count_ticks,
    histogram,
    line_chart,
    log_ticks,
    round_ticks,
    short,
)
from setmatch.html.page import environment

UNIT = Axis("recall", (0.0, 0.5, 1.0))
FIGURE = '{% import "html/parts.html" as parts %}{{ parts.chart(chart) }}'


def drawing(chart: Chart) -> ElementTree.Element:
    """The chart as a tree; parsing fails if a name was not escaped."""
    return ElementTree.fromstring(environment().from_string(FIGURE).render(chart=chart))


def test_bar_heights_are_proportional_to_counts():
    counts, edges = [0] * 9 + [1, 4] + [0] * 9, np.arange(21.0).tolist()
    figure = drawing(histogram(counts, edges, "size", "cats", "{:g}".format))
    rectangles = figure.findall(".//rect")
    heights = [float(rectangle.attrib["height"]) for rectangle in rectangles]
    assert len(heights) == 8, "empty bars at both ends are left out"
    assert max(heights) == pytest.approx(4 * sorted(heights)[-2], abs=0.5)
    assert "from 10 to below 11: 4 cats" in [title.text for title in figure.findall(".//title")]


@pytest.mark.parametrize("highest", [0, 1, 2, 3, 7, 10, 99, 100, 101, 4_321, 12_345, 1_000_001])
def test_a_histogram_has_an_axis_of_round_counts(highest: int):
    """The highest bar ends where the axis says; the lowest tick is 0, and all are whole."""
    ticks = count_ticks(highest)
    assert ticks[0] == 0
    assert ticks[-1] >= highest
    assert 2 <= len(ticks) <= 4
    assert len(set(np.diff(ticks))) == 1
    figure = drawing(histogram([highest, 0], [0.0, 1.0, 2.0], "size", "cats", "edge {:g}".format))
    bar = figure.find(".//rect").attrib
    labels = {text.text: float(text.attrib["y"]) for text in figure.findall(".//text")}
    zero, top = labels["0"], labels[short(float(ticks[-1]))]
    height = (zero - top) * highest / ticks[-1]
    assert float(bar["height"]) == pytest.approx(height, abs=0.2)
    assert float(bar["y"]) + float(bar["height"]) == pytest.approx(zero - 3.5, abs=0.2)


def test_curves_differ_by_pattern_and_tag_not_by_color_alone():
    points = [(0.0, 0.0), (1.0, 1.0), None]
    curves = [Curve("a", points, "red"), Curve("b", points, "green", dash="7 4", tag="2")]
    figure = drawing(line_chart(curves, "c", UNIT, UNIT))
    drawn = [path.get("stroke-dasharray") for path in figure.findall(".//path[@class='curve']")]
    legend = figure.find(".//div[@class='legend']")
    assert drawn == [path.get("stroke-dasharray") for path in legend.findall(".//path")]
    assert drawn == [None, "7 4"]
    assert [sign.text for sign in legend.findall(".//b")] == ["2"]
    tag = next(text for text in figure.findall(".//text") if text.text == "2")
    corner = next(text for text in figure.findall(".//text") if text.text == "1")
    assert float(tag.attrib["y"]) == pytest.approx(float(corner.attrib["y"]), abs=0.2)


def test_tags_of_curves_that_end_together_stay_apart():
    points = [(0.0, 0.0), (1.0, 0.5)]
    curves = [Curve(name, points, "red", tag=name) for name in ("1", "2", "3")]
    tags = [text for text in line_chart(curves, "c", UNIT, UNIT).texts if text.text in "123"]
    marks = [Curve("m", (), "red", marks=[(1.0, 0.5, "")], tag="2")]
    (alone,) = [text for text in line_chart(marks, "c", UNIT, UNIT).texts if text.text == "2"]
    ys = sorted(tag.y for tag in tags if tag.anchor == "start")
    assert ys[0] == alone.y
    assert np.diff(ys).tolist() == [9, 9]


def test_equal_values_have_short_ticks():
    assert round_ticks(61.48412345, 61.48412345)[-1] < 61.6
    assert all(len(short(tick)) < 7 for tick in round_ticks(61.48412345, 61.48412345))


def test_zeros_alone_have_an_axis_that_people_read():
    """Such as the AP of a model that has learned nothing yet."""
    assert [short(tick) for tick in round_ticks(0.0, 0.0)] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_a_curve_goes_through_its_points():
    """The corners of the axes are the corners of the grid; None interrupts the curve."""
    points = [(0.0, 0.0), (0.5, 1.0), None, (1.0, 0.0), (1.0, 1.0)]
    figure = drawing(line_chart([Curve("a", points, "red")], "c", UNIT, UNIT))
    path = figure.find(".//path[@class='curve']")
    assert path is not None
    places = re.findall(r"([ML])([\d.]+) ([\d.]+)", path.attrib["d"])
    assert [command for command, _, _ in places] == ["M", "L", "M", "L"]
    x = [float(place) for _, place, _ in places]
    y = [float(place) for _, _, place in places]
    assert x[1] == pytest.approx((x[0] + x[2]) / 2, abs=0.1)
    assert y[0] == y[2] > y[1] == y[3]


def test_names_cannot_inject_markup():
    name = '<script>"&'
    mark = (0.5, 0.5, name)
    curve = Curve(name, [(0.0, 0.0), (1.0, 1.0)], "red", marks=[mark])
    figure = drawing(line_chart([curve, curve], name, Axis(name, (0.0, 1.0)), UNIT))
    assert not figure.findall(".//script")
    assert [title.text for title in figure.findall(".//title")] == [name] * 4
    assert figure.findall(".//span")[0].find("svg").tail == name


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (17.8, 1740.0, [10, 20, 50, 100, 200, 500, 1000, 2000]),
        (17.8, 85.0, [10, 20, 50, 100]),
        (20.0, 20.0, [20, 50]),
        (0.01, 1000.0, [0.01, 0.1, 1, 10, 100, 1000]),
    ],
)
def test_ticks_of_a_log_axis_are_few_round_numbers_around_the_values(
    low: float, high: float, ticks: list[float]
):
    found = log_ticks(low, high, most=8)
    assert found == ticks
    axis = LogAxis("latency", found)
    assert 0 <= axis.position(low) <= axis.position(high) <= 1
    assert axis.position(math.sqrt(found[0] * found[-1])) == pytest.approx(0.5)


def test_numbers_of_an_axis_are_short():
    written = [short(float(value)) for value in (0, 0.25, 150, 12_000, 2.5e6, 1e-4, 0.1 + 0.2)]
    assert written == ["0", "0.25", "150", "12k", "2.5M", "0.0001", "0.3"]


def test_the_points_of_a_dashed_curve_are_rings():
    """A curve of one point has no line, so that its mark alone distinguishes it."""
    axis = Axis("", [0.0, 1.0], str)
    curves = [
        Curve("AP", [(1.0, 0.5)], "red", marks=[(1.0, 0.5, "AP")]),
        Curve("AP50", [(1.0, 0.9)], "red", DASHES[1], marks=[(1.0, 0.9, "AP50")]),
    ]
    chart = line_chart(curves, "", axis, axis)
    assert [(dot.title, dot.hollow) for dot in chart.dots] == [("AP", False), ("AP50", True)]
