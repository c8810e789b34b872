"""The findings about object queries, and the page that explains them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from browser import OpenPage
from setmatch.explanation.queries.findings import query_findings
from setmatch.explanation.queries.page import write_page
from setmatch.explanation.queries.statistics import QueryStatistics
from setmatch.structures.metadata import Categories, ModelCard

PETS = Categories((1, 2), ("cat", "dog"))


def statistics(detecting: list[int], queries: int, ranked: bool = False) -> QueryStatistics:
    """Statistics of images in which the first `detecting` queries score above the threshold."""
    random = np.random.default_rng(0)
    shape = (len(detecting), queries)
    score = np.where(np.arange(queries) < np.array(detecting)[:, None], 0.9, 0.1)
    center = random.uniform(0, 1, (*shape, 2))
    size = np.exp(random.uniform(-3, -0.5, (*shape, 2)))
    return QueryStatistics(
        ModelCard("made_up", {}, PETS),
        "pets.json",
        0.5,
        ranked,
        np.concatenate([center, size], axis=-1).astype(np.float32),
        score.astype(np.float32),
        random.integers(0, 2, shape),
    )


def text(study: QueryStatistics) -> str:
    return "\n".join(f"{each.fact} {each.meaning}" for each in query_findings(study))


def test_a_model_that_detects_nothing_has_a_single_finding():
    (finding,) = query_findings(statistics([0, 0, 0], 4))
    assert "No query scores above 0.5" in finding.fact
    assert "--threshold 0.1" in finding.meaning


@pytest.mark.parametrize("ranked", [True, False])
def test_the_number_of_a_query_is_a_rank_or_a_role(ranked: bool):
    found = text(statistics([1, 2], 4, ranked))
    assert ("its rank in an image, not a role" in found) == ranked
    assert ("Each can have a role" in found) == (not ranked)


@pytest.mark.parametrize(
    ("detecting", "queries", "expected"),
    [
        ([4, 2], 4, "Every query detects something"),
        ([4, 2], 5, "1 of 5 queries never detect .* Spare queries are normal"),
        ([4, 2], 8, r"4 of 8 .* 6 would do \(--set model.num_queries=6\)"),
        ([1, 1], 100, "99 of 100 .* 2 would do"),
    ],
)
def test_unused_queries_are_counted_and_explained(detecting, queries, expected):
    assert re.search(expected, text(statistics(detecting, queries)))


@pytest.mark.parametrize(
    ("detecting", "expected"),
    [
        ([8, 2], "5.0 of 10 .* at most 8. .* the queries run out, .*num_queries=12"),
        ([10, 10], "10.0 of 10 .* at most 10. .*num_queries=15"),
        ([7, 2], "4.5 of 10 .* at most 7. There are enough"),
    ],
)
def test_too_few_queries_are_reported(detecting, expected):
    assert re.search(expected, text(statistics(detecting, 10)))


def test_specialists_are_named():
    study = statistics([3] * 60, 3)
    assert "No query specializes" in text(study)
    study.class_index[:, 1] = 1
    study.cxcywh[:, 2, :2] = 0.5
    found = text(study)
    assert "1 query keeps to one class: query 1 (dog)." in found
    assert "1 query keeps to one place: query 2." in found
    assert "No query specializes" not in found
    many = statistics([12] * 60, 24)
    many.cxcywh[:, :10, :2] = np.linspace(0, 1, 10)[:, None]
    assert "10 queries keep to one place: queries 0, 1, 2, 3, 4, 5, 6, 7 and 2 more." in text(many)


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_explains_what_it_shows(
    open_page: OpenPage, tmp_path: Path, width: int, height: int
):
    """Missing boxes are not drawn, and each box is a dot at its center."""
    study = statistics([3, 1, 0], 40)
    study.cxcywh[0, 0] = (0.25, 0.75, 0.02, 0.02)
    study.cxcywh[1:, 1] = np.nan
    write_page(study, (), tmp_path / "queries.html")
    page = open_page(tmp_path / "queries.html", width=width, height=height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    findings = query_findings(study)
    assert page.locator(".findings b").all_inner_texts() == [each.fact for each in findings]
    assert page.locator(".findings p").all_inner_texts() == [each.meaning for each in findings]
    panels = page.locator(".panels figure")
    assert panels.count() == 20
    assert [panels.nth(number).locator("ellipse").count() for number in range(3)] == [3, 1, 3]
    dots = panels.first.locator("ellipse").evaluate_all(
        "dots => dots.map((dot) => [dot.cx.baseVal.value, dot.cy.baseVal.value])"
    )
    assert [25, 75] in dots
    assert page.locator(".queries tr").count() == 1 + 3
    assert "query 1: 33%" in page.locator(".panels").inner_text()


@pytest.mark.thorough
def test_the_page_of_many_images_and_queries_stays_small(tmp_path: Path):
    study = statistics([300] * 400, 300)
    write_page(replace(study, ranked=True), range(30), tmp_path / "all.html")
    write_page(study, (), tmp_path / "some.html")
    assert (tmp_path / "some.html").stat().st_size < 1_500_000
    assert (tmp_path / "all.html").read_text("utf-8").count("<ellipse") <= 30 * 300 + 3
