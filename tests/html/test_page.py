"""The renderer of all pages: it escapes, it fails on a missing value, it writes whole files."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

import setmatch
from setmatch.html.page import environment, render, write

PACKAGE = Path(setmatch.__file__).parent
TEMPLATES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.html"))
COMPARISON = {
    "count": 1,
    "measured_on": "<b>",
    "tables": [],
    "chart": None,
    "doubts": [],
    "notes": ["a & b"],
}


def test_every_value_is_escaped():
    text = render("evaluation/compare/compare.html", **COMPARISON)
    assert "&lt;b&gt;" in text
    assert "a &amp; b" in text


def test_a_missing_value_is_an_error():
    with pytest.raises(UndefinedError, match="notes"):
        render("evaluation/compare/compare.html", **{**COMPARISON, "notes": MISSING})


MISSING = environment().undefined(name="notes")


def test_a_page_that_cannot_be_rendered_leaves_the_old_file(tmp_path: Path):
    (tmp_path / "page.html").write_text("old")
    with pytest.raises(UndefinedError):
        write(tmp_path / "page.html", "evaluation/compare/compare.html")
    assert (tmp_path / "page.html").read_text() == "old"


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_switches_escaping_off(template: str):
    source = (PACKAGE / template).read_text("utf-8")
    assert environment().get_template(template)
    assert "|safe" not in source.replace(" ", "")
    assert "autoescape" not in source
