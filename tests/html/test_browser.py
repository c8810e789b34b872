"""The browser that looks at our pages: what it holds against a page can fail."""

from pathlib import Path
from typing import Any

import pytest

from browser import OpenPage, opened_pages

GOOD = "<!doctype html><title>Good</title><p>Here I am."
BAD = {
    "asked for": "<!doctype html><img alt='' src='other.png'>",
    "stumbled": "<!doctype html><script>nothing.there()</script>",
    "said": "<!doctype html><script>console.error('broken')</script>",
}


def test_a_page_is_opened_at_the_width_asked_for(open_page: OpenPage, tmp_path: Path):
    """A phone's width is a phone's width, and the text is there."""
    (tmp_path / "page.html").write_text(GOOD)
    page = open_page(tmp_path / "page.html", width=390, height=844)
    assert page.evaluate("window.innerWidth") == 390
    assert page.inner_text("p") == "Here I am."


@pytest.mark.parametrize("complaint", BAD)
def test_a_page_that_misbehaves_is_noticed(browser: Any, tmp_path: Path, complaint: str):
    """Asking for another file, an uncaught error and an error in the console each fail a test."""
    (tmp_path / "page.html").write_text(BAD[complaint])
    with pytest.raises(AssertionError, match=complaint), opened_pages(browser) as open_page:
        open_page(tmp_path / "page.html")
