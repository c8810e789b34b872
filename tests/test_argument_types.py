"""Every public function answers an argument of a wrong type in one sentence."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

import setmatch as sm
from setmatch.argument_types import checked

GIVEN: dict[str, dict[str, Any]] = {  # what each function needs; nothing of it is there
    "evaluate": {"model": "no such model", "data": "no such data"},
    "explain": {"model": "no such model", "image": "none.jpg"},
    "export": {"model": "no such model", "path": "none.onnx"},
    "load": {"source": "no such model"},
    "load_recipe": {"source": "none.yaml"},
    "predict": {"model": "no such model", "images": "none.jpg"},
    "predict_video": {"model": "no such model", "source": "none.mp4"},
    "push": {"model": "no such model", "name": "nobody/none"},
    "save": {"detector": "no such model", "folder": "none"},
    "train": {"data": "no such data", "out": "none"},
}
FUNCTIONS = {name: value for name in sm.__all__ if inspect.isfunction(value := getattr(sm, name))}
# The checks of shapes, which only tests have, come before those of these.
BEHIND_SHAPES = {("predict", "model"), ("predict", "images"), ("predict_video", "model")}
CASES = [
    (name, parameter)
    for name, function in FUNCTIONS.items()
    for parameter in inspect.signature(function).parameters
    if (name, parameter) not in BEHIND_SHAPES
]


def _annotation(name: str, parameter: str) -> Any:
    return inspect.signature(FUNCTIONS[name]).parameters[parameter].annotation


def test_every_public_function_is_tested():
    assert FUNCTIONS.keys() == GIVEN.keys()


class Stranger:
    def __repr__(self) -> str:
        return "a stranger"


@pytest.mark.parametrize(("name", "parameter"), CASES, ids=[f"{f}-{p}" for f, p in CASES])
def test_a_stranger_is_refused_as_any_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, parameter: str
):
    """Each argument in turn, whatever the others are."""
    monkeypatch.chdir(tmp_path)
    for wrong in (Stranger(), {1, 2}, 1j, b"x"):
        with pytest.raises(sm.SetmatchError) as caught:
            FUNCTIONS[name](**GIVEN[name] | {parameter: wrong})
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("wrong", [None, 3, 2.5, [], {}, torch.zeros(2), np.zeros(2)], ids=str)
@pytest.mark.parametrize("name", sorted(GIVEN.keys() - {"load_recipe", "predict", "predict_video"}))
def test_a_wrong_first_argument_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any
):
    monkeypatch.chdir(tmp_path)
    first = next(iter(GIVEN[name]))
    with pytest.raises(sm.SetmatchError, match=r"give |is not a model|weights"):
        FUNCTIONS[name](**GIVEN[name] | {first: wrong})


def test_the_sentence_says_what_was_given_and_what_may_be():
    with pytest.raises(sm.SetmatchError) as caught:
        sm.load(3)  # type: ignore[arg-type]
    assert str(caught.value) == "load: source = 3 (int); give a string or a Path"


def test_a_missing_argument_is_pythons_own_error():
    with pytest.raises(TypeError, match=r"^load\(\) missing a required argument: 'source'$"):
        sm.load()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "advice"),
    [("tresholds", "did you mean threshold"), ("Classes", "did you mean classes"), ("x", "known")],
)
def test_an_unknown_argument_is_pythons_own_error_and_advice(name: str, advice: str):
    with pytest.raises(TypeError, match=rf"^predict\(\) got .* '{name}'; {advice}"):
        sm.predict(**GIVEN["predict"], **{name: 0.5})


@checked
def counted(number: int, part: float = 0.5, is_last: bool = False, name: str | None = None) -> int:
    return number


@pytest.mark.parametrize("number", [3, np.int64(3)])
@pytest.mark.parametrize("part", [1, 0.5, np.float32(0.5)])
def test_numbers_of_numpy_are_numbers(number: Any, part: Any):
    assert counted(number, part, True, "a") == number


@pytest.mark.parametrize(
    "call",
    [
        lambda: counted(2.5),
        lambda: counted("3"),
        lambda: counted(3, "0.5"),
        lambda: counted(3, None),
        lambda: counted(True),
        lambda: counted(3, False),
        lambda: counted(3, name=3),
        lambda: counted(3, is_last="yes"),
    ],
)
def test_other_values_are_not(call: Callable[[], int]):
    with pytest.raises(sm.SetmatchError, match=r"^counted: "):
        call()


NUMBERS = [
    (name, parameter)
    for name, parameter in CASES
    if {int, float}
    & (kinds := set(get_args(annotation := _annotation(name, parameter))) | {annotation})
    and bool not in kinds
]


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize(("name", "parameter"), NUMBERS, ids=[f"{f}-{p}" for f, p in NUMBERS])
def test_true_and_false_are_no_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, parameter: str, answer: bool
):
    """A threshold of True would be 1, which no score reaches."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sm.SetmatchError, match=rf"{parameter} = {answer} \(bool\); give "):
        FUNCTIONS[name](**GIVEN[name] | {parameter: answer})


IDS = {"None": None, "3": 3, "a set": {1, 2}, "two": (1, 2), "many": (1,) * 10**6}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
@pytest.mark.parametrize("names", [None, 3, ("cat",)])
def test_categories_are_two_lists_of_one_length(ids: Any, names: Any):
    with pytest.raises(sm.SetmatchError, match="equally long") as caught:
        sm.Categories(ids, names)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "overrides", ["train.lr=1", b"train.lr=1", [1], [None], 3, {"train.lr": 1}]
)
def test_settings_are_a_list_of_strings(overrides: Any):
    with pytest.raises(sm.SetmatchError, match="give a list of strings"):
        sm.load_recipe(None, overrides)
    assert sm.load_recipe(None, ("train.lr=1",)).train.lr == 1


@pytest.mark.parametrize("half", ["\ud800", "cat\udce9", "\udc80\ud800"])
@pytest.mark.parametrize("names", [("{}", "dog"), (None, "{} "), ("dog", "a{}b")])
def test_a_name_that_no_file_can_hold_is_refused(half: str, names: tuple[str | None, str]):
    given = tuple(None if each is None else each.format(half) for each in names)
    with pytest.raises(sm.SetmatchError, match="half a surrogate pair") as caught:
        sm.Categories((1, 2), given)
    assert str(caught.value).isascii()
    assert sm.Categories((1, 2), ("\U0001f600", "")).names == ("\U0001f600", "")
