"""Numbers of a benchmark, and when not to trust them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from browser import OpenPage
from setmatch.deploy.benchmark.html import write_page
from setmatch.deploy.benchmark.results import Benchmark, Row, Speed, fastest
from setmatch.evaluation.timing import Times

ROUNDS = st.lists(
    st.lists(st.floats(1e-4, 10), min_size=1, max_size=5).map(tuple), min_size=1, max_size=9
).map(tuple)


def speed(rounds_s: tuple[tuple[float, ...], ...]) -> Speed:
    return Speed((480, 640), rounds_s, {1: 0.1, 4: 0.2, 8: 0.5}, 10**8, 10**7)


def result(load: float = 0.0, *rounds_s: tuple[tuple[float, ...], ...]) -> Benchmark:
    rows = tuple(Row(f"model {n}", "eager", 1, speed(each), 0.5) for n, each in enumerate(rounds_s))
    return Benchmark(rows, "a processor", load, 3, "4 images")


@given(ROUNDS)
def test_quantiles_are_latencies_in_order(rounds_s):
    """The largest latency bounds them all."""
    of = Times(rounds_s)
    numbers = [of.median_s, of.quantile_s(0.9), of.quantile_s(0.99)]
    assert min(of.latencies_s) <= numbers[0]
    assert numbers[1] <= numbers[2] <= max(of.latencies_s)
    assert of.quantile_s(1.0) == max(of.latencies_s)
    assert of.scatter >= 0


def test_the_best_batch_has_the_most_images_a_second():
    assert speed(((0.1,),)).best == (20.0, 4)


@pytest.mark.parametrize(
    ("load", "rounds_s", "doubts"),
    [
        (0.1, ((0.10, 0.30), (0.11, 0.29), (0.10, 0.31), (0.105, 0.3)), 0),
        (0.1, ((0.10,), (0.20,), (0.11,), (0.22,)), 1),
        (3.0, ((0.10,), (0.20,), (0.11,), (0.22,)), 2),
        (3.0, ((0.10,),), 1),
    ],
)
def test_a_busy_machine_is_noticed(load: float, rounds_s, doubts: int):
    """By its load before, and by rounds that differ; slow single images are no sign."""
    assert len(result(load, rounds_s).doubts()) == doubts


def test_the_page_has_every_row_and_marks_the_fastest(open_page: OpenPage, tmp_path: Path):
    """A model that does not run has no bar, and its note is escaped."""
    made = result(2.0, ((0.2,), (0.2,)), ((0.1,), (0.1,)))
    failed = Row("<b>broken</b>", "openvino", 2, None, note="no <i>file</i>")
    made = Benchmark((*made.rows, failed), *(made.machine, made.load, made.rounds, "4 images"))
    assert fastest(made.rows) is made.rows[1]
    write_page(made, tmp_path / "speed.html")
    for width in (400, 1400):
        page = open_page(tmp_path / "speed.html", width=width)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("tr.total td:first-child").all_inner_texts() == ["model 1"] * 3
    assert "no <i>file</i>" in page.inner_text("ul")
    assert "Do not trust these times" in page.inner_text("main")
    bars = page.locator("td.bar i").evaluate_all("bars => bars.map(bar => bar.style.width)")
    assert bars == ["50%", "100%"]
