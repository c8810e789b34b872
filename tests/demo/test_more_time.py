"""A demo below its goal says what more time would give, at the pace of its machine."""

import re

import pytest

from setmatch.demo.more_time import GOAL, REACHED, Measured, more_time


@pytest.mark.parametrize("steps", [100, 400, 2000])
def test_a_demo_that_reached_its_goal_says_nothing(steps: int):
    assert more_time(Measured(steps, GOAL.AP, GOAL.AP50), 3.0) is None


@pytest.mark.parametrize(("AP", "AP50"), [(0.749, 0.95), (0.8, 0.899), (0.0, 0.0)])
@pytest.mark.parametrize("steps", [7, 300, 673])
@pytest.mark.parametrize("minutes", [0.5, 3.0])
def test_the_minutes_suffice_for_the_steps_of_a_run_that_got_there(
    AP: float, AP50: float, steps: int, minutes: float
):
    """At the pace of this run, and not for half a minute more than needed."""
    sentence = more_time(Measured(steps, AP, AP50), minutes)
    assert sentence is not None
    advised = float(re.search(r"--minutes (\S+)", sentence)[1])
    assert advised - 0.5 < minutes * REACHED[0].steps / steps <= advised
    assert f"{100 * REACHED[0].AP:.1f}" in sentence


def test_a_longer_run_is_compared_with_a_longer_one():
    sentence = more_time(Measured(700, 0.74, 0.92), 3.0)
    assert sentence is not None
    assert f"{REACHED[1].steps} steps" in sentence


def test_nothing_is_promised_beyond_what_was_tried():
    """A run that had more steps than any before gets no advice on minutes."""
    sentence = more_time(Measured(5000, 0.74, 0.92), 3.0)
    assert sentence is not None
    assert "--minutes" not in sentence


def test_a_demo_without_a_step_says_nothing():
    assert more_time(Measured(0, 0.0, 0.0), 0.1) is None
