"""Render jinja2 templates to self-contained HTML pages: they open from disk, without a network."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from setmatch.files.writing import write_text

_PACKAGE = Path(__file__).parents[1]


def render(template: str, **context: object) -> str:
    """Render a template, named by its path in the package: "data/audit/audit.html".

    Every value of `context` is escaped. Raises UndefinedError for a name that it lacks.
    """
    return environment().get_template(template).render(context)


def write(path: Path, template: str, **context: object) -> None:
    """Render a template and write the page to `path`, whole or not at all."""
    write_text(path, render(template, **context))


@cache
def environment() -> Environment:
    """Return the jinja2 environment of all pages, which escapes every value."""
    made = Environment(
        loader=FileSystemLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    made.filters["compact"] = "{:g}".format
    return made
