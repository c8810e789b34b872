"""YAML of unknown origin is read in bounded time and memory, and shown in bounded messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.errors import short
from setmatch.files.safe_yaml import YamlError, parse_yaml


def aliases(levels: int, width: int = 10, merge: bool = False) -> str:
    """Return a document whose last value stands for width^levels values."""
    lines = ["a0: &a0 {x: 1, y: 2}" if merge else f"a0: &a0 [{', '.join(['lol'] * width)}]"]
    for level in range(1, levels):
        below = ", ".join([f"*a{level - 1}"] * width)
        value = f"{{<<: [{below}], k{level}: 0}}" if merge else f"[{below}]"
        lines.append(f"a{level}: &a{level} {value}")
    return "\n".join(lines)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(("levels", "width"), [(8, 10), (40, 2), (9, 9), (200, 3)])
def test_aliases_of_aliases_are_refused_before_they_are_replaced(levels, width, merge):
    with pytest.raises(YamlError, match="aliases stand for more than 1,000,000 values"):
        parse_yaml(aliases(levels, width, merge))


def test_an_alias_inside_of_itself_is_refused():
    with pytest.raises(YamlError, match="inside of what it stands for"):
        parse_yaml("names: &a [*a]")


def test_harmless_aliases_are_read():
    tree = parse_yaml("base: &b {lr: 1}\ntrain: {<<: *b, epochs: 3}\nagain: [*b, *b]")
    assert tree["train"] == {"lr": 1, "epochs": 3}
    assert tree["again"] == [{"lr": 1}] * 2


@pytest.mark.parametrize(
    "text",
    ["names: [", "2026-02-31", "{" * 5000, "? [a, [b]]\n: 1", "!!python/object:os.x {}", "\x00"],
)
def test_every_failure_is_a_yaml_error_in_one_line(text: str):
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner)
        | st.lists(inner, max_size=3).map(tuple)
    ),
)


@given(VALUES, st.integers(10, 100))
def test_a_value_is_shown_as_its_repr_and_cut(value: object, most: int):
    shown = short(value, most)
    if len(repr(value)) <= most:
        assert shown == repr(value)
    else:
        assert len(shown) <= most
        assert shown.endswith("...")


def test_a_value_larger_than_memory_is_shown():
    value: list[object] = ["lol"]
    for _ in range(60):
        value = [value] * 10
    assert short(value) == "[" * 57 + "..."
    assert short([10**5000]) == "[int]"


@pytest.mark.parametrize("value", ["1:30", "23:59:59", "-1:30.5", "1" + ":59" * 20_000 + ".5"])
def test_times_are_texts(value: str):
    """YAML 1.1 has numbers to the base of 60, whose time grows with the square of their length."""
    assert parse_yaml(f"a: {value}") == {"a": value}
    assert parse_yaml(f"[{value}]", unique_keys=True) == [value]


@pytest.mark.parametrize("digits", ["9", "-9", "0xf", "0b1", "07", "9_", "9.5"])
def test_numbers_are_read_up_to_a_length_that_python_can_print(digits: str):
    assert isinstance(parse_yaml(f"[{digits}0]")[0], int | float)
    with pytest.raises(YamlError, match=r"a number of 4,30\d letters"):
        parse_yaml(f"[{digits}{'1' * 4300}]")


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "x: {b: 1, c: 2, b: 1}", "1: a\n1.0: b", ".nan: 1\n.nan: 2"]
)
def test_a_key_that_is_there_twice_is_refused_on_request(text: str):
    assert parse_yaml(text)
    with pytest.raises(YamlError, match="duplicate key"):
        parse_yaml(text, unique_keys=True)


@pytest.mark.parametrize("unique_keys", [False, True])
def test_merged_keys_are_those_of_yaml(unique_keys: bool):
    """Own keys replace merged ones, and those of the first mapping those of the others."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {<<: *b, z: 4}"
    tree = parse_yaml(text, unique_keys)
    assert tree["c"] == {"x": 3, "y": 1, "z": 2}
    assert tree["d"] == {"y": 2, "z": 4}
