"""A way on from command lines that cannot be understood, and from the words of other programs."""

import re

import pytest

from setmatch.cli import app, main
from setmatch.cli.advice import COMMANDS, OPTIONS, SENTENCES, unknown_option

VERBS = [name for name in app if not name.startswith("-")]


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
