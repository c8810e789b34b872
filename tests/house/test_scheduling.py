"""Tests that share what is dear to make run in one process, and the longest ones start first."""

from itertools import pairwise
from pathlib import Path

import pytest

from scheduling import part_of, place_of

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent


def test_a_file_is_one_part():
    """Its fixtures are made once, whatever the parameters of a test contain."""
    first = part_of("tests/losses/test_matcher.py::test_a[x::y@z]")
    assert first == part_of("tests/losses/test_matcher.py::TestB::test_b")
    assert first != part_of("tests/losses/test_masks.py::test_a")


@pytest.mark.parametrize("fixture", ["scenes_onnx", "scenes_xml", "fixed"])
def test_an_export_that_files_share_is_written_by_one_process(fixture: str):
    """Whatever reads it belongs to one part."""
    readers = {
        part_of(str(path.relative_to(ROOT)))
        for path in TESTS.rglob("test_*.py")
        if f"    {fixture}:" in (text := path.read_text("utf-8")) or f"({fixture}:" in text
    }
    assert len(readers) == 1


def test_the_longest_parts_come_first():
    names = [
        "tests/deploy/test_export.py::a",
        "tests/docs/test_blocks.py::a",
        "tests/files/test_reading.py::a",
    ]
    assert all(place_of(first) < place_of(second) for first, second in pairwise(names))
