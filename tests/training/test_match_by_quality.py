"""Late steps match queries by their quality alone, as DEIMv2 is trained."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import CrashError, assert_bit_equal, crash_before, log_rows, run_tiny, write_data

from setmatch.config import TrainSettings
from setmatch.recipe_text import load_recipe
from setmatch.training.schedule.schedule import make_schedule
from thorough import usually

COCO = 118_287  # training images
QUALITY_ALONE = ("matching.class=0", "matching.l1=0", "matching.giou=0", "matching.quality=1")
# Ten images and batches of four: five steps in two epochs, of which the second has three.
SETTINGS = ("train.epochs=2", "train.log_every=1", "train.match_by_quality_from=0.5")


@pytest.mark.parametrize(("size", "epoch"), [("n", 136), ("pico", 450), ("femto", 450)])
def test_it_starts_with_the_epoch_of_the_authors(size: str, epoch: int):
    """`matcher_change_epoch` in their configurations."""
    plan = make_schedule(COCO, load_recipe(f"published/deimv2_{size}").train)
    late = [step for step in range(plan.steps) if plan.matches_by_quality(step)]
    assert late == list(range(late[0], plan.steps))
    assert (plan.epoch(late[0] - 1), plan.epoch(late[0])) == (epoch - 1, epoch)


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 20), st.floats(0, 1))
def test_all_images_of_a_late_step_are_of_late_epochs(
    images: int, batch: int, epochs: int, start: float
):
    settings = TrainSettings(epochs=epochs, batch_size=batch, match_by_quality_from=start)
    plan = make_schedule(images, settings)
    first = math.ceil(start * epochs)
    for step in range(plan.steps):
        assert plan.matches_by_quality(step) == (step * batch >= first * images)


def test_a_time_based_run_counts_its_time():
    settings = TrainSettings(minutes=10, match_by_quality_from=0.9)
    plan = make_schedule(COCO, settings)
    assert [plan.matches_by_quality(7, 60 * m) for m in (0, 8.9, 9, 10)] == [False] * 2 + [True] * 2
    never = make_schedule(COCO, TrainSettings(minutes=10))
    assert not never.matches_by_quality(7, 60 * 11)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("scenes"), splits=("train", "val"))


def _losses(run):
    return [row["loss"] for row in log_rows(run) if row["kind"] == "train"]


def test_the_cost_changes_at_that_step_alone(scenes, tmp_path):
    plain = run_tiny(scenes, tmp_path / "plain", *SETTINGS[:2]).folder
    late = run_tiny(scenes, tmp_path / "late", *SETTINGS).folder
    before, after = _losses(plain), _losses(late)
    assert len(before) == 5
    assert [a == b for a, b in zip(before, after)] == [True, True, True, False, False]


def test_from_the_start_it_is_that_cost_and_no_other(scenes, tmp_path):
    stated = run_tiny(scenes, tmp_path / "stated", *SETTINGS[:2], *QUALITY_ALONE).folder
    from_start = (*SETTINGS[:2], "train.match_by_quality_from=0")
    assert_bit_equal(run_tiny(scenes, tmp_path / "start", *from_start).folder, stated)


@pytest.mark.parametrize("step", usually([2, 4], 4))
def test_a_run_that_is_resumed_changes_its_cost_as_it_would_have(
    scenes, tmp_path, monkeypatch, step
):
    settings = (*SETTINGS, "train.checkpoint_every=1")
    whole = run_tiny(scenes, tmp_path / "whole", *settings).folder
    with monkeypatch.context() as patch:
        crash_before(step, patch)
        with pytest.raises(CrashError):
            run_tiny(scenes, tmp_path / "run", *settings)
    assert_bit_equal(run_tiny(scenes, tmp_path / "run", *settings, resume=True).folder, whole)
