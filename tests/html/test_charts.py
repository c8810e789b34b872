"""Charts that are right where they are drawn, and safe whatever users call their classes."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from setmatch.html.charts import Axis, Curve, LogAxis, bars, curves, round_factors

UNIT = Axis("recall", (0.0, 0.5, 1.0))


def drawing(figure: str) -> ElementTree.Element:
    """The figure as a tree, which it is only when every name was escaped."""
    return ElementTree.fromstring(figure)


def test_a_bar_is_as_high_as_its_count():
    """Heights are in proportion, empty ends are left out, and a bar tells its range."""
    figure = drawing(
        bars([0] * 9 + [1, 4] + [0] * 9, np.arange(21.0).tolist(), "size", "cats", "{:g}".format)
    )
    rectangles = figure.findall(".//rect")
    heights = [float(rectangle.attrib["height"]) for rectangle in rectangles]
    assert len(heights) == 8
    assert max(heights) == pytest.approx(4 * sorted(heights)[-2], abs=0.5)
    assert "from 10 to below 11: 4 cats" in [title.text for title in figure.findall(".//title")]


def test_a_curve_goes_through_its_points():
    """The corners of the axes are the corners of the grid; a gap lifts the pen."""
    points = [(0.0, 0.0), (0.5, 1.0), None, (1.0, 0.0), (1.0, 1.0)]
    figure = drawing(curves([Curve("a", points, "red")], "c", UNIT, UNIT))
    path = figure.find(".//path[@class='curve']")
    assert path is not None
    places = re.findall(r"([ML])([\d.]+) ([\d.]+)", path.attrib["d"])
    assert [pen for pen, _, _ in places] == ["M", "L", "M", "L"]
    x = [float(place) for _, place, _ in places]
    y = [float(place) for _, _, place in places]
    assert x[1] == pytest.approx((x[0] + x[2]) / 2, abs=0.1)
    assert y[0] == y[2] > y[1] == y[3]


def test_names_cannot_smuggle_in_markup():
    """A class may be called anything; it stays text."""
    name = '<script>"&'
    mark = (0.5, 0.5, name)
    curve = Curve(name, [(0.0, 0.0), (1.0, 1.0)], "red", marks=[mark])
    figure = drawing(curves([curve, curve], name, Axis(name, (0.0, 1.0)), UNIT))
    assert not figure.findall(".//script")
    assert [title.text for title in figure.findall(".//title")] == [name] * 4
    assert figure.findall(".//span")[0].find("i").tail == name


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (17.8, 1740.0, [10, 20, 50, 100, 200, 500, 1000, 2000]),
        (17.8, 85.0, [10, 20, 50, 100]),
        (20.0, 20.0, [20, 50]),
        (0.01, 1000.0, [0.01, 0.1, 1, 10, 100, 1000]),
    ],
)
def test_factors_enclose_what_they_measure(low: float, high: float, ticks: list[float]):
    """From milliseconds to seconds there are a few round numbers, the ends included."""
    found = round_factors(low, high, most=8)
    assert found == ticks
    axis = LogAxis("latency", found)
    assert 0 <= axis.place(low) <= axis.place(high) <= 1
    assert axis.place(math.sqrt(found[0] * found[-1])) == pytest.approx(0.5)
