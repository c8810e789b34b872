"""Messages say numbers and unknown names as a person would."""

import pytest

from setmatch.errors import counted


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (1, "step", "1 step"),
        (0, "step", "0 steps"),
        (1008, "step", "1,008 steps"),
        (1.0, "minute", "1 minute"),
        (0.5, "minute", "0.5 minutes"),
        (1, "process", "1 process"),
        (2, "process", "2 processes"),
        (2, "micro-batch", "2 micro-batches"),
    ],
)
def test_numbers_of_things_are_counted_in_plain_english(count: float, noun: str, said: str):
    assert counted(count, noun) == said
