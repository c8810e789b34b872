"""The micro-batch size, and what happens when memory runs out."""

import pytest
import torch
from tiny_runs import log_rows, run_tiny

from setmatch.config import TrainSettings
from setmatch.distributed import Distributed
from setmatch.errors import TrainingError
from setmatch.recipe_text import load_recipe
from setmatch.structures.batch import Batch
from setmatch.training.machine.micro_batch import (
    explain_oom,
    explain_single_value,
    micro_batch_size,
)
from setmatch.training.step import TrainStep
from thorough import usually

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


def test_a_norm_that_sees_one_value_is_explained():
    """One image whose last features are a single cell: torch's words name no setting."""
    batch = Batch.from_images([torch.zeros(3, 64, 96)])
    advice = r"1 image of 96x64 px.*set train.micro_batch=2 or"
    with pytest.raises(TrainingError, match=advice), explain_single_value(batch):
        torch.nn.BatchNorm2d(4)(torch.zeros(1, 4, 1, 1))


def test_other_wrong_values_are_not_about_norms():
    batch = Batch.from_images([torch.zeros(3, 16, 16)])
    with pytest.raises(ValueError, match="elsewhere"), explain_single_value(batch):
        raise ValueError("elsewhere")


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.fixture
def room_for(monkeypatch):
    """Limit memory to so many images at once, from a step on; `greedy` counts what was refused."""

    def limit(images, error=ERRORS[0], from_update=0):
        backward, refused = TrainStep._backward, []

        def limited(self, minibatch, *others):
            terms = backward(self, minibatch, *others)  # memory may run out at its end
            if len(minibatch.targets) > images and self.ema.updates >= from_update:
                refused.append(len(minibatch.targets))
                raise error
            return terms

        monkeypatch.setattr(TrainStep, "_backward", limited)
        return refused

    return limit


@pytest.mark.parametrize("error", usually(ERRORS, ERRORS[0]), ids=lambda e: type(e).__name__)
def test_a_run_goes_on_with_smaller_micro_batches(data, tmp_path, room_for, capsys, error):
    """It says so once for each, and learns what it would have with these from the start."""
    expected = run_tiny(data, tmp_path / "one", "train.micro_batch=1", "train.epochs=2")
    refused = room_for(1, error)
    run = run_tiny(data, tmp_path / "run", "train.micro_batch=4", "train.epochs=2")
    assert refused == [4, 2]
    said = capsys.readouterr().err
    assert said.count("out of memory at step 1 with 4 images at once; from now on 2") == 1
    assert said.count("out of memory at step 1 with 2 images at once; from now on 1") == 1
    for name, value in expected.model.state_dict().items():
        assert torch.allclose(run.model.state_dict()[name], value, rtol=0, atol=1e-5), name


def test_memory_that_runs_out_later_loses_no_step(data, tmp_path, room_for, capsys):
    refused = room_for(1, from_update=4)
    run = run_tiny(data, tmp_path / "run", "train.micro_batch=2", "train.log_every=1")
    assert refused == [2]
    assert "out of memory at step 5 with 2 images" in capsys.readouterr().err
    steps = [row["step"] for row in log_rows(run.folder) if row["kind"] == "train"]
    assert steps == list(range(1, 9))


def test_without_room_for_one_image_the_run_ends_with_advice(data, tmp_path, room_for):
    refused = room_for(0)
    with pytest.raises(TrainingError, match=r"memory with 1 image.*at once: use smaller images"):
        run_tiny(data, tmp_path / "run", "train.micro_batch=2")
    assert refused == [2, 1]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_other_errors_are_not_about_memory(data, tmp_path, room_for):
    room_for(0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run_tiny(data, tmp_path / "run", "train.micro_batch=2")
