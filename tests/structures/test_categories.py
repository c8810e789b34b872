"""Lists of classes, as people write them: names and indices, separated by commas."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.errors import ConfigError
from setmatch.structures.metadata import Categories

# Odd names that stand beside each other: with commas, with spaces around them, and digits.
NAMES = ("red", "car, red", " blue", "2", ",", "a,b,c", "a", "b,c", "grün")
PAIRS = list(itertools.permutations(["red", "car, red", "grün"], 2))
ODD = Categories(tuple(range(len(NAMES))), NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_can_be_chosen_as_it_is(name: str):
    assert ODD.indices_of(name) == [NAMES.index(name)]


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("comma", [",", ", ", " , "])
def test_names_with_commas_stand_beside_others(one: str, other: str, comma: str):
    assert ODD.indices_of(f"{one}{comma}{other}") == [NAMES.index(one), NAMES.index(other)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b,c", ["a,b,c"]),  # the longest
        ("a, b,c", ["a", "b,c"]),
        ("b,c,a", ["b,c", "a"]),
        ("0,8", ["red", "grün"]),
        ("2", ["2"]),  # a name comes before an index
        ("red, 2 ,red", ["red", "2", "red"]),
        ("\u0663", ["2"]),  # index 3, in Arabic digits
    ],
)
def test_a_list_is_read_from_the_left_by_its_longest_names(text: str, names: list[str]):
    assert ODD.indices_of(text) == [NAMES.index(name) for name in names]


def test_all_indices_of_a_name_that_is_there_twice_are_meant():
    assert Categories((1, 5, 9), ("a", "b", "a")).indices_of("b,a") == [1, 0, 2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("red,rad", "class 'rad': no such class; did you mean red"),
        ("car", "class 'car': no such class"),
        ("10", "class 10: class indices are 0 to 8"),
        ("red,-1", "class '-1': no such class"),
        ("9" * 5000, "class 9+: class indices are 0 to 8$"),
        ("0" * 18 + "1", "class 0+: class indices"),
    ],
)
def test_what_is_no_class_is_named_alone(text: str, problem: str):
    with pytest.raises(ConfigError, match=f"^{problem}"):
        ODD.indices_of(text)


CLASSES = st.lists(st.text("a, 1é", min_size=1, max_size=4), min_size=1, max_size=5, unique=True)


@given(CLASSES, st.text("a, 1é", max_size=12))
def test_every_list_is_read_or_refused(names: list[str], text: str):
    """And what is read are classes of the model; a name alone is itself."""
    classes = Categories(tuple(range(len(names))), tuple(names))
    try:
        found = classes.indices_of(text)
    except ConfigError:
        assert text not in names
        return
    assert found
    assert all(index in range(len(names)) for index in found)
    assert text not in names or found == [names.index(text)]


def test_a_long_list_is_read_in_one_pass():
    """A stranger sends the server as many commas as fit into an address."""
    began_s = time.process_time()
    assert len(ODD.indices_of(",".join(["red"] * 30_000))) == 30_000
    assert time.process_time() - began_s < 3
