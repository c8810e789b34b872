"""One grammar: arguments by place or by name, and a way on from the words of other programs."""

import itertools
import re
from typing import Any, get_args

import pytest

from setmatch.cli import app, main
from setmatch.cli.grammar import COMMANDS, OPTIONS, SENTENCES, by_place, unknown_option
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


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = main(words)
    printed = capsys.readouterr()
    assert code == 2, printed
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("setmatch: ").strip()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train data=d epochs=3", "train: data=d: write --data d"),
        ("predict source=a.jpg model=m", "predict: source=a.jpg: write --source a.jpg"),
        ("train d --batch 8 --out r", "here it is --set train.batch_size=..."),
        ("predict m a.jpg --conf 0.5 --out r", "here it is --threshold"),
        ("predict m a.jpg --conf=0.5 --out r", "--conf: no such option; here it is --threshold"),
        ("predict m a.jpg --iou 0.5 --out r", "no NMS"),
        ("train d --out r --patience 5", "--set train.patience=..."),
        ("train d --out r --workers 2", "--set data.workers=..."),
        ("train d --out r --resume true", "--resume takes no value, but 'true' follows it"),
        ("train d more --out r", "'more' is one too many; it takes DATA"),
        ("models more", "'more' is one too many; it takes no arguments"),
        ("evaluate --data d", "evaluate: MODEL is missing: Trained model"),
        ("evaluate m --data", "--data needs a value"),
        ("evaluate m d --html r.html", "here it is --report"),
        ("tune d --out t --iterations 4", "here it is --trials"),
        ("convert-data d o --to coco --to yolo", "convert-data: --to is given twice; give it once"),
        ("explain m a.jpg --out why", "why: a page is HTML"),
        ("audit d --html a.pdf", "a.pdf: a page is HTML"),
        ("compare m --html a", "a: a page is HTML"),
        ("benchmark m --html a", "a: a page is HTML"),
        ("queries m d --out q.html", "q.html: a folder is written"),
        ("export m --out a.onnx --frobnicate", "see setmatch export --help"),
    ],
)
def test_words_of_other_programs_are_answered(capsys, words: str, says: str):
    assert says in error_of(capsys, *words.split())


def test_a_command_of_another_program_names_ours(capsys):
    assert set(COMMANDS.values()) <= {*VERBS}
    assert not COMMANDS.keys() & {*VERBS}
    assert error_of(capsys, "val", "x") == "val: no such command; did you mean evaluate?"
    assert error_of(capsys, "zzz", "x").startswith("zzz: no such command; known are demo, audit")


@pytest.mark.parametrize("verb", VERBS)
def test_every_advice_names_an_option_that_the_command_has(verb: str):
    """For every word of other programs, recipe settings and nonsense."""
    arguments = app[verb].assemble_argument_collection()
    names = {name for each in arguments for name in each.names}
    for word in {*OPTIONS, *SENTENCES, "zzz", "lr", "device-name"} - {n[2:] for n in names}:
        message = unknown_option(verb, arguments, f"--{word}=1")
        assert message.startswith(f"{verb}: --{word}: no such option; ")
        advised = set(re.findall(r"--[a-z0-9-]+", message)) - {f"--{word}"}
        assert advised <= {*names, "--help", "--debug"} | (
            {"--out"} if word in SENTENCES else set()
        )


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


VALUES = [
    ("predict a.jpg --tiles abc", "--tiles abc: give a whole number or auto"),
    ("predict a.jpg --overlap x", "--overlap x: give a number"),
    ("predict a.jpg --threshold high", "--threshold high: give a number or best"),
    ("predict a.jpg --batch-size many", "--batch-size many: give a whole number"),
    ("serve run --port http", "--port http: give a whole number"),
    ("serve run --port=80.5", "--port 80.5: give a whole number"),
    ("predict a.jpg --batch-size 2.7", "--batch-size 2.7: give a whole number"),
    ("predict a.jpg --tiles 64.5", "--tiles 64.5: give a whole number or auto"),
    ("queries run d --out o --query 3 --query 4.5", "--query 4.5: give a whole number"),
    ("queries run d --out o --query many", "--query many: give a whole number"),
    ("predict a.jpg --overlap 0.5", "m: no such"),
]


@pytest.mark.parametrize(("words", "says"), VALUES)
def test_a_value_of_another_kind_is_answered_without_types_of_python(capsys, words: str, says: str):
    words = f"{words} --out o --model m" if words.startswith("predict") else words
    assert error_of(capsys, *words.split()).startswith(says)


def test_what_cyclopts_says_well_is_left_to_it(capsys):
    assert "many" in error_of(capsys, "train", "d", "--out", "r", "--epochs", "many")


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
