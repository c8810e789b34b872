"""The time of a step is measured, on the planned recipe and real pictures."""

import time
from pathlib import Path

import pytest

from setmatch.config import load_recipe
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.training.profile_step import seconds_per_step
from setmatch.training.step import TrainStep


def test_the_time_of_a_step_is_measured(tmp_path: Path):
    """Three steps take between one and all of the seconds that passed meanwhile."""
    write_scenes(tmp_path, 4, 1, 64, 0, workers=1)
    recipe = load_recipe(
        {
            "model": {"preset": "detr_r18_tiny"},
            "data": {"short_side_px": 64, "long_side_px": 96, "workers": 0},
            "train": {"batch_size": 2, "micro_batch": 1},
        }
    )
    began = time.perf_counter()
    seconds = seconds_per_step(recipe, open_dataset(tmp_path, "train"))
    assert 0 < 3 * seconds < time.perf_counter() - began


def test_pictures_that_grow_are_timed_as_they_grow(tmp_path: Path, monkeypatch):
    """A step of each third of the run, whose pictures begin with half of their sides."""
    shares = []
    learn = TrainStep.step

    def noted(self, window, normalizer, seeds, share):
        shares.append(share)
        return learn(self, window, normalizer, seeds, share)

    monkeypatch.setattr(TrainStep, "step", noted)
    write_scenes(tmp_path, 4, 1, 64, 0, workers=1)
    settings = ("data.short_side_px=64", "data.long_side_px=64", "train.batch_size=2")
    recipe = load_recipe("setmatch_n", [*settings, "data.workers=0", "train.full_size_at=0.6"])
    seconds_per_step(recipe, open_dataset(tmp_path, "train"))
    assert shares == pytest.approx([1, 0.5 + 0.5 / 3.6, 0.5 + 0.5 / 1.2, 1])


def test_masks_are_timed_with_the_boxes_of_a_model_that_has_them(tmp_path: Path, monkeypatch):
    """Reading and learning them is a part of what a step costs."""
    seen = []
    learn = TrainStep.step

    def noted(self, window, normalizer, seeds, share):
        seen.extend(target.masks is not None for each in window for target in each.targets)
        return learn(self, window, normalizer, seeds, share)

    monkeypatch.setattr(TrainStep, "step", noted)
    write_scenes(tmp_path, 4, 1, 64, 0, workers=1, panoptic=True)
    settings = ("data.short_side_px=64", "data.long_side_px=64", "train.batch_size=2")
    recipe = load_recipe("setmatch_n_panoptic", [*settings, "data.workers=0"])
    seconds_per_step(recipe, open_dataset(tmp_path, "train", "panoptic"))
    assert len(seen) == 8
    assert all(seen)
