"""The time of a training step is measured with the recipe and images of the run."""

import time
from pathlib import Path

import pytest

from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.recipe_text import load_recipe
from setmatch.training.machine.profile_step import seconds_per_step
from setmatch.training.step import TrainStep


def test_the_time_of_a_step_is_measured(tmp_path: Path):
    """Three steps take less than the whole call."""
    write_scenes(tmp_path, 4, 1, 64, 0, workers=1)
    recipe = load_recipe(
        {
            "model": {"preset": "detr_r18_tiny"},
            "data": {"short_side_px": 64, "long_side_px": 96, "workers": 0},
            "train": {"batch_size": 2, "micro_batch": 1},
        }
    )
    started = time.perf_counter()
    seconds = seconds_per_step(recipe, open_dataset(tmp_path, "train"))
    assert 0 < 3 * seconds < time.perf_counter() - started


def test_each_step_uses_the_image_size_of_its_third_of_the_run(tmp_path: Path, monkeypatch):
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


@pytest.mark.thorough
def test_a_model_with_masks_is_timed_with_masks(tmp_path: Path, monkeypatch):
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
