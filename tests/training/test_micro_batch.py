"""The micro-batch size, and advice when the GPU runs out of memory."""

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
def test_auto_depends_on_the_device_and_divides_the_batch(device, world, batch_size, images):
    """The whole part of a process on a GPU; its largest divisor up to 8 on a CPU."""
    settings = TrainSettings(batch_size=batch_size, micro_batch="auto")
    assert micro_batch_size(settings, Distributed(device, 0, world)) == images


def test_a_resumed_run_keeps_its_micro_batch(data, tmp_path):
    """The number that auto resolved to is in the recipe of the run."""
    run = run_tiny(data, tmp_path / "run", "train.micro_batch=auto", "train.epochs=1")
    assert load_recipe(run.folder / "recipe.yaml").train.micro_batch == 4


def test_a_number_is_used_on_any_device():
    assert micro_batch_size(TrainSettings(micro_batch=3), Distributed(GPU)) == 3


@pytest.mark.parametrize(
    ("images", "advice"), [(16, "train.micro_batch=8"), (9, "micro_batch=3"), (1, "short_side_px")]
)
def test_out_of_memory_advises_a_smaller_divisor(images, advice):
    """For a single image the advice is a smaller image."""
    with pytest.raises(TrainingError, match=advice), explain_oom(images):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_run_out_of_memory_resumes_with_a_smaller_micro_batch(data, tmp_path, monkeypatch):
    """The advice works: earlier steps are kept."""
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
