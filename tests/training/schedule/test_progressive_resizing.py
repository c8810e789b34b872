"""Progressive resizing: images that grow during training."""

import pytest
import torch
from tiny_runs import (
    CrashError,
    assert_bit_equal,
    crash_before,
    log_rows,
    run_tiny,
    write_data,
)

from setmatch.config import TrainSettings
from setmatch.data.batches.loader import Minibatch
from setmatch.structures.batch import Batch, Target
from setmatch.structures.packed_masks import PackedMasks
from setmatch.training.schedule.progressive_resizing import downscale, resolution_scale
from setmatch.training.schedule.schedule import make_schedule


def minibatch(*sizes, masks=False):
    targets = tuple(
        Target(
            torch.tensor([0]),
            torch.tensor([[0.5, 0.5, 0.5, 0.5]]),
            PackedMasks.pack(_middle(h, w)) if masks else None,
        )
        for h, w in sizes
    )
    batch = Batch.from_images([torch.ones(3, h, w) for h, w in sizes])
    return Minibatch(batch, targets, tuple(range(len(sizes))))


def _middle(height, width):
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    return mask


@pytest.mark.parametrize(
    ("progress", "share"), [(0.15, 0.625), (0.3, 0.75), (0.6, 1.0), (0.99, 1.0)]
)
def test_image_sides_grow_linearly_and_then_stay(progress, share):
    """From half their length to all of it at `full_size_at`."""
    plan = make_schedule(100, TrainSettings(epochs=16, batch_size=1, full_size_at=0.6))
    assert resolution_scale(0.0, 0.6) == 0.5
    assert plan.resolution_scale(round(progress * plan.steps)) == pytest.approx(share)


def test_the_first_step_has_full_size():
    """A GPU without enough memory fails at once, not when images have grown."""
    plan = make_schedule(100, TrainSettings(epochs=16, batch_size=1, full_size_at=0.6))
    assert plan.resolution_scale(0) == 1.0


def test_in_a_time_based_run_sides_grow_with_the_time():
    plan = make_schedule(100, TrainSettings(minutes=1.0, full_size_at=0.5))
    assert [plan.resolution_scale(7, spent_s) for spent_s in (0.0, 15.0, 30.0, 50.0)] == [
        0.5,
        0.75,
        1,
        1,
    ]


def test_images_have_full_size_by_default():
    plan = make_schedule(100, TrainSettings())
    whole = minibatch((128, 192))
    assert plan.resolution_scale(0) == 1.0
    assert downscale(whole, plan.resolution_scale(0)) is whole


def test_images_padding_and_masks_are_resized_together():
    """By whole cells; padding stays padding, and masks cover the same region."""
    small = downscale(minibatch((256, 384), (128, 384), masks=True), 0.5)
    assert small.batch.pixels.shape == (2, 3, 128, 192)
    assert small.batch.valid.flatten(1).sum(1).tolist() == [128 * 192, 64 * 192]
    for target, (height, width) in zip(small.targets, [(128, 192), (64, 192)], strict=True):
        assert torch.equal(target.masks.unpack(), _middle(height, width))


def test_a_side_keeps_128_pixels_or_its_length():
    small = downscale(minibatch((160, 320), (48, 300)), 0.5)
    assert small.batch.pixels.shape == (2, 3, 128, 160)
    thin = downscale(minibatch((40, 320)), 0.5)
    assert thin.batch.pixels.shape == (1, 3, 40, 160)


@pytest.mark.thorough
def test_a_resumed_run_uses_the_same_sizes(tmp_path, monkeypatch):
    """The size follows from the step."""
    data = write_data(tmp_path / "data")
    settings = ("train.full_size_at=0.75", "data.short_side_px=160", "data.long_side_px=256")
    whole = run_tiny(data, tmp_path / "whole", *settings)
    constant = run_tiny(data, tmp_path / "constant", *settings, "train.full_size_at=0")
    with monkeypatch.context() as patch:
        crash_before(3, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", *settings)
    resumed = run_tiny(data, tmp_path / "run", *settings, resume=True)
    assert_bit_equal(resumed.folder, whole.folder)
    losses = [
        [row["loss"] for row in log_rows(run.folder) if "loss" in row][1]
        for run in (whole, constant)
    ]
    assert losses[0] != losses[1]
