"""One grammar for all commands: arguments by place or by name."""

import itertools
from typing import Any, get_args

import pytest

from setmatch.cli import app, main
from setmatch.cli.grammar import by_place
from setmatch.demo import demo
from setmatch.deploy.load import EngineName
from setmatch.errors import ConfigError
from setmatch.setting_values import Freeze
from setmatch.training.start import resolve_recipe

VERBS = [name for name in app if not name.startswith("-")]
# The options of each command that change nothing about how its arguments are read.
BESIDE = {
    "audit": ["--json", "a.json", "--time"],
    "train": ["--out", "run", "--resume", "--set", "train.lr=1"],
    "tune": ["--out", "search", "--trials=3"],
    "evaluate": ["--split", "test", "--tiles=auto"],
    "queries": ["--out", "q", "--query", "3", "--query", "4"],
    "predict": ["--out", "o", "--track", "--no-images", "--fps", "5"],
    "explain": ["--out", "w.html", "--point", "3,4"],
    "convert-data": ["--to", "coco", "--link"],
    "convert-weights": ["--to", "original"],
    "push": ["--private"],
    "compare": ["--rounds", "3"],
    "curves": ["--out", "c.html"],
}


def slots(verb: str) -> list[str]:
    arguments = app[verb].assemble_argument_collection()
    return [each.name for each in arguments if each.index is not None]


@pytest.mark.parametrize("verb", BESIDE)
def test_each_argument_is_given_by_place_or_by_name_in_any_order(verb: str):
    """The command sees the arguments in their places, then all options."""
    names = slots(verb)
    values = [name.lower() for name in names]
    for is_named in itertools.product([False, True], repeat=len(names)):
        words = [
            [f"--{name.lower()}", value] if named else [value]
            for name, value, named in zip(names, values, is_named, strict=True)
        ]
        for order in itertools.permutations(range(len(words))):
            placed = [at for at in order if not is_named[at]]
            if placed != sorted(placed):
                continue  # what has no name is known by its place
            given = [word for at in order for word in words[at]]
            for line in ([*given, *BESIDE[verb]], [*BESIDE[verb], *given]):
                if any(is_named):
                    assert by_place(app, [verb, *line]) == [verb, *values, *BESIDE[verb]]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_command_is_asked_for_in_both_ways(capsys, verb: str):
    assert main(["help", verb]) == 0
    asked = capsys.readouterr().out
    assert main([verb, "--help"]) == 0
    assert asked == capsys.readouterr().out


def test_a_file_with_an_equals_sign_in_its_name_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source=1").mkdir()
    assert by_place(app, ["predict", "m", "source=1"]) == ["predict", "m", "source=1"]
    with pytest.raises(ConfigError, match="write --source 2"):
        by_place(app, ["predict", "m", "source=2"])


@pytest.mark.parametrize(
    ("verb", "option", "known"),
    [
        ("train", "--freeze", Freeze),
        ("train", "--task", resolve_recipe.Task),
        ("demo", "--task", demo.Task),
        ("predict", "--engine", EngineName),
        ("serve", "--engine", EngineName),
    ],
)
def test_an_option_has_the_choices_of_the_function(verb: str, option: str, known: Any):
    """They are written again in the command line, which imports nothing heavy for its help."""
    arguments = app[verb].assemble_argument_collection()
    (hint,) = [each.hint for each in arguments if option in each.names]
    literals = [hint, *get_args(hint)]
    assert known in literals


SAME = {  # what has one name in several commands, and a meaning of its own in each
    *("--out", "--json", "--html", "--minutes", "--epochs", "--data", "--batch-size", "--size"),
    *("--split", "--recipe", "--task", "--to", "--tiles", "--scenes"),
    "--threshold",  # best is for predict
    "--engine",  # a server takes the fastest
    "--model",  # of the demo
}


def test_an_option_of_several_commands_has_one_default_and_one_text():
    """But for those that are named here."""
    meanings: dict[str, set[tuple[str, str]]] = {}
    for verb in VERBS:
        for each in app[verb].assemble_argument_collection(parse_docstring=True):
            if each.index is None:
                said_of = (repr(each.field_info.default), each.parameter.help or "")
                meanings.setdefault(each.name, set()).add(said_of)
    assert {name for name, texts in meanings.items() if len(texts) > 1} <= SAME
