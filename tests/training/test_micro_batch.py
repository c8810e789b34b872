"""How many images go through the model at once, and what is said when they are too many."""

import pytest
import torch
from tiny_runs import log_rows, run_tiny

from setmatch.config import TrainSettings, load_recipe
from setmatch.distributed import Distributed
from setmatch.errors import TrainingError
from setmatch.training.micro_batch import explain_oom, micro_batch_size
from setmatch.training.step import TrainStep

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("device", "world", "batch_size", "images"),
    [
        (GPU, 1, 16, 16),
        (GPU, 4, 16, 4),
        (CPU, 1, 16, 8),
        (CPU, 2, 16, 8),
        (CPU, 1, 18, 6),
        (CPU, 1, 17, 17),
    ],
)
def test_auto_fits_the_device_and_deals_out_evenly(device, world, batch_size, images):
    """All of a process' share on a GPU; on a CPU the largest part of it up to 8."""
    settings = TrainSettings(batch_size=batch_size, micro_batch="auto")
    assert micro_batch_size(settings, Distributed(device, 0, world)) == images


def test_a_run_goes_on_by_the_number_it_began_with(data, tmp_path):
    """What auto meant is in the run's recipe, so that another device changes nothing."""
    run = run_tiny(data, tmp_path / "run", "train.micro_batch=auto", "train.epochs=1")
    assert load_recipe(run.folder / "recipe.yaml").train.micro_batch == 4


def test_a_number_stays_what_it_is():
    """Whoever says how many is obeyed on any device."""
    assert micro_batch_size(TrainSettings(micro_batch=3), Distributed(GPU)) == 3


@pytest.mark.parametrize(
    ("images", "advice"), [(16, "train.micro_batch=8"), (9, "micro_batch=3"), (1, "short_side_px")]
)
def test_what_fits_is_advised(images, advice):
    """A number that is smaller and divides as before; of a single image its size."""
    with pytest.raises(TrainingError, match=advice), explain_oom(images):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_run_that_needs_too_much_memory_goes_on_with_fewer_images(data, tmp_path, monkeypatch):
    """The advice works: the steps before are kept, and training ends with smaller micro-batches."""
    learn = TrainStep.step

    def greedy(self, window, *others):
        if len(window[0].targets) > 1 and self.ema.updates >= 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return learn(self, window, *others)

    monkeypatch.setattr(TrainStep, "step", greedy)
    with pytest.raises(TrainingError, match="micro_batch=1, or use"):
        run_tiny(data, tmp_path / "run", "train.micro_batch=2")
    run_tiny(data, tmp_path / "run", "train.micro_batch=1", resume=True, allow_changes=True)
    assert log_rows(tmp_path / "run")[-1]["step"] == 8
