"""The time of a step is measured, on the planned recipe and real pictures."""

import time
from pathlib import Path

from setmatch.config import load_recipe
from setmatch.data.opening import open_dataset
from setmatch.data.scenes import write_scenes
from setmatch.train.timing import seconds_per_step


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
