"""Write the reference pages from the code: commands, recipe settings, models and API.

Run before the site is built (`make docs`): python docs/generate_reference.py
"""

import contextlib
import inspect
import io
import itertools
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import yaml
from cyclopts import App
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import setmatch
from setmatch.cli import app, main
from setmatch.config import Recipe
from setmatch.recipe_text import RECIPES, recipe_names

REFERENCE = Path(__file__).parent / "reference"
REPOSITORY = Path(__file__).parents[1]
# Rooms whose __all__ is public beside the names of `setmatch` itself.
ROOMS = ("models", "layers", "losses", "data", "data.transforms", "metrics", "engines")


def commands() -> str:
    """Return the page of the command line, from the cyclopts app."""
    lines = ["# Commands", "", "Generated from the command line itself.", ""]
    lines += [_paragraphs(app.help_epilogue), ""]
    for name in _verbs(app):
        lines += [f"## setmatch {name}", "", _paragraphs(app[name].help), ""]
        arguments = app[name].assemble_argument_collection(parse_docstring=True)
        if arguments:
            lines += ["| argument | default | meaning |", "|---|---|---|"]
        for argument in arguments:
            default = argument.field_info.default
            missing = default is inspect.Parameter.empty
            meaning = _one_line(argument.parameter.help)
            absent = default is None or default == ()
            shown = "required" if missing else "" if absent else _default(default)
            lines.append(f"| `{argument.name}`{_choices(argument.hint)} | {shown} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def settings() -> str:
    """Return the page of recipe settings, from the pydantic models."""
    lines = ["# Recipe settings", "", "Generated from the models that check a recipe.", ""]
    lines += [_paragraphs(inspect.getdoc(Recipe)), ""]
    for name, field in Recipe.model_fields.items():
        section = _section(field)
        meaning = field.description if field.default is None else inspect.getdoc(section)
        lines += [f"## {name}", "", _paragraphs(meaning), ""]
        if field.default is None:
            lines += ["The same settings as [train](#train). Default: no such stage.", ""]
            continue
        lines += ["| setting | default | meaning |", "|---|---|---|"]
        for key, default, field_choices, meaning in setting_rows(name, section):
            lines.append(f"| `{key}`{field_choices} | {default} | {meaning} |")
        lines.append("")
    lines += ["## The recipes that come with setmatch", "", "| recipe | for |", "|---|---|"]
    lines += [f"| `{name}` | {_purpose(name)} |" for name in recipe_names()]
    for name in recipe_names():
        lines += ["", f"### {name}", "", "```yaml", (RECIPES / f"{name}.yaml").read_text("utf-8")]
        lines[-1] = lines[-1].rstrip()
        lines += ["```"]
    return "\n".join([*lines, ""])


def setting_rows(name: str, section: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the key, default, choices and meaning of each setting of a section."""
    for field_name, field in section.model_fields.items():
        key = f"{name}.{field.alias or field_name}"
        meaning = _one_line(field.description)
        yield key, _default(field.default), _choices(field.annotation), meaning


def models() -> str:
    """Return the page of presets and bundled weights: what `setmatch models` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["models"]) == 0
    lines = ["# Models", "", "This is what `setmatch models` prints. Published figures and speeds"]
    lines += ["are on the page [Benchmarks](../explanation/benchmarks.md).", ""]
    return "\n".join([*lines, "```text", printed.getvalue().rstrip(), "```", ""])


def api() -> str:
    """Return the page of `import setmatch as sm`: its own functions and classes, and its rooms."""
    lines = ["# Python API", "", "The names of `import setmatch as sm`. More are in its rooms:", ""]
    lines += [f"- [sm.{room}](api-{room}.md): {_opening(_room(room))}" for room in ROOMS]
    return "\n".join([*lines, "", *_entries(setmatch)])


def api_of_room(room: str) -> str:
    """Return the page of a room, with an entry for each of its public names."""
    module = _room(room)
    lines = [f"# sm.{room}", "", _paragraphs(inspect.getdoc(module)), ""]
    return "\n".join(lines + _entries(module))


def pages() -> dict[str, str]:
    """Return all generated pages by their names, without the suffix."""
    rooms = {f"api-{room}": api_of_room(room) for room in ROOMS}
    return {page.__name__: page() for page in (commands, settings, models, api)} | rooms


def _room(name: str) -> Any:
    try:
        return import_module(f"setmatch.{name}")
    except ModuleNotFoundError:
        return attrgetter(name)(setmatch)


def _opening(module: Any) -> str:
    """Return the first sentence about a module."""
    return (inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " ")


def _entries(module: Any) -> list[str]:
    """Return a mkdocstrings entry for each public function and class of a module."""
    lines = []
    for name in sorted(module.__all__, key=str.lower):
        public = getattr(module, name)
        if inspect.isfunction(public) or inspect.isclass(public):
            lines += [f"::: {public.__module__}.{public.__qualname__}", ""]
    return lines


def _verbs(program: App) -> list[str]:
    return [name for name in program if not name.startswith("-")]


def _section(field: FieldInfo) -> type[BaseModel]:
    choices = get_args(field.annotation) or (field.annotation,)
    (section,) = [choice for choice in choices if choice is not type(None)]
    assert issubclass(section, BaseModel)
    return section


def _choices(hint: object) -> str:
    """Return the values of a Literal hint, or nothing for any other type."""
    words = [word for word in get_args(hint) if isinstance(word, str)]
    return f"<br>{', '.join(words)}" if words else ""


def _default(value: object) -> str:
    """Return a default as one writes it in a recipe or on the command line."""
    if isinstance(value, Path):
        value = str(value)
    text = yaml.safe_dump(value, default_flow_style=True)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def _purpose(recipe: str) -> str:
    """Return the comment that a recipe opens with, in one line."""
    lines = (RECIPES / f"{recipe}.yaml").read_text("utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return _one_line(" ".join(line.removeprefix("#") for line in comment))


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _paragraphs(text: str | None) -> str:
    """Return the first part of a docstring, without the numpy section of its parameters."""
    return inspect.cleandoc(text or "").split("\n\nParameters\n---")[0]


def write_pages() -> None:
    """Write all generated pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages()
