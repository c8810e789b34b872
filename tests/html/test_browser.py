"""The browser of the tests: it notices pages that misbehave."""

from pathlib import Path
from typing import Any

import pytest

from browser import OpenPage, opened_pages

GOOD = "<!doctype html><title>Good</title><p>Here I am."
BAD = {
    "requested": "<!doctype html><img alt='' src='other.png'>",
    "raised": "<!doctype html><script>nothing.there()</script>",
    "logged": "<!doctype html><script>console.error('broken')</script>",
}


def test_a_page_is_opened_at_the_requested_width(open_page: OpenPage, tmp_path: Path):
    (tmp_path / "page.html").write_text(GOOD)
    page = open_page(tmp_path / "page.html", width=390, height=844)
    assert page.evaluate("window.innerWidth") == 390
    assert page.inner_text("p") == "Here I am."


@pytest.mark.parametrize("problem", BAD)
def test_a_page_that_misbehaves_fails_the_test(browser: Any, tmp_path: Path, problem: str):
    """A request for another file, an uncaught error, and an error in the console."""
    (tmp_path / "page.html").write_text(BAD[problem])
    with pytest.raises(AssertionError, match=problem), opened_pages(browser) as open_page:
        open_page(tmp_path / "page.html")
