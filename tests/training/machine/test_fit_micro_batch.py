"""`train.micro_batch: auto` takes as many images at once as memory holds."""

import math

import pytest
import torch
from tiny_runs import (
    CrashError,
    assert_bit_equal,
    crash_before,
    run_tiny,
    write_data,
)

from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import counted
from setmatch.files import process_memory
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Preprocessing
from setmatch.training.machine import fit_micro_batch, memory
from setmatch.training.machine.fit_micro_batch import largest_that_fits
from setmatch.training.step import TrainStep
from thorough import usually

AUTO = ("train.micro_batch=auto", "train.epochs=2", "train.checkpoint_every=1")


class Meter:
    """A memory of so many bytes, of which the model takes `base` and each image `image`."""

    def __init__(self, base, image, longest=math.inf):
        self.base, self.image, self.longest, self.tried = base, image, longest, []

    def __call__(self, images):
        self.tried.append(images)
        return self.base + self.image * images if images <= self.longest else math.inf


@pytest.mark.parametrize(
    ("images", "room", "fits", "tried"),
    [
        (8, 1000, 8, [1, 2]),
        (8, 900, 8, [1, 2]),
        (8, 899, 4, [1, 2]),
        (8, 400, 2, [1, 2]),
        (8, 399, 1, [1]),  # two may be too many to try
        (8, 0, 1, [1]),
        (8, -5, 1, [1]),
        (6, 500, 3, [1, 2]),
        (7, 799, 1, [1, 2]),
        (17, 10_000, 17, [1, 2]),
    ],
)
def test_the_largest_divisor_on_the_line_fits(images, room, fits, tried):
    """A base of 100 bytes and 100 for each image."""
    meter = Meter(100, 100)
    assert largest_that_fits(images, room, meter) == fits
    assert meter.tried == tried


def test_a_slow_trial_is_not_repeated():
    """Every image counts as much as the first then."""
    meter = Meter(100, 100)
    assert largest_that_fits(8, 800, meter, longest_s=-1.0) == 4
    assert meter.tried == [1]


def test_memory_that_runs_out_in_a_trial_is_too_much():
    assert largest_that_fits(8, 10_000, Meter(100, 100, longest=1)) == 1
    assert largest_that_fits(8, 10_000, Meter(100, 100, longest=0)) == 1


def test_an_unknown_growth_leaves_the_rule():
    assert largest_that_fits(8, 10, lambda images: None) == 8


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", splits=("train", "val"))


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many bytes, where a process has 1,000 and an image takes 10 million."""

    def with_memory(limit):
        rehearsed, rehearse = [], TrainStep.rehearse

        def counted(self, minibatch):
            rehearsed.append(len(minibatch.targets))
            rehearse(self, minibatch)

        def growth(work):
            work()
            return 10_000_000 * rehearsed[-1]

        monkeypatch.setattr(TrainStep, "rehearse", counted)
        monkeypatch.setattr(memory, "memory_limit", lambda: limit)
        monkeypatch.setattr(process_memory, "resident_bytes", lambda: 1000)
        monkeypatch.setattr(memory, "growth_during", growth)
        return rehearsed

    return with_memory


def micro_batch_of(run):
    return load_recipe(run.folder / "recipe.yaml").train.micro_batch


@pytest.mark.parametrize(
    ("limit", "images", "tried"),
    [
        (10**12, 4, []),
        pytest.param(60_000_000, 4, [1, 2], marks=pytest.mark.thorough),
        (40_000_000, 2, [1, 2]),
        pytest.param(2000, 1, [1], marks=pytest.mark.thorough),
    ],
)
def test_a_run_takes_what_its_memory_holds(data, tmp_path, machine, capsys, limit, images, tried):
    """Nothing is tried where memory is plenty; a smaller number is said, with the limit."""
    rehearsed = machine(limit)
    run = run_tiny(data, tmp_path / "run", *AUTO)
    assert micro_batch_of(run) == images
    assert rehearsed == tried
    at_once = f"{counted(images, 'image')} at once instead of 4, because the limit is"
    said = at_once in capsys.readouterr().err
    assert said == (images < 4)


@pytest.mark.parametrize("preset", usually(["tiny_norm", "tiny_panoptic"], "tiny_norm"))
def test_trying_changes_nothing(data, tmp_path, machine, preset):
    """No weight, statistic, gradient or random number, with masks and batch norms, too."""
    if preset == "tiny_panoptic":
        data = tmp_path / "scenes"
        write_scenes(data, 4, 4, 64, 0, 0, panoptic=True)
    settings = (*AUTO, f"model.preset={preset}")
    machine(10**12)
    plain = run_tiny(data, tmp_path / "plain", *settings)
    rehearsed = machine(60_000_000)
    tried = run_tiny(data, tmp_path / "tried", *settings)
    assert rehearsed == [1, 2]
    assert_bit_equal(tried.folder, plain.folder)


def test_a_number_is_never_tried(data, tmp_path, machine):
    rehearsed = machine(2000)
    assert micro_batch_of(run_tiny(data, tmp_path / "run", "train.micro_batch=4")) == 4
    assert rehearsed == []


@pytest.mark.thorough
def test_a_resumed_run_keeps_its_number_on_a_larger_machine(data, tmp_path, machine, monkeypatch):
    """Though the recipe that is named again says auto; the result is the same."""
    machine(40_000_000)
    whole = run_tiny(data, tmp_path / "whole", *AUTO)
    with monkeypatch.context() as patched:
        crash_before(2, patched)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", *AUTO)
    rehearsed = machine(10**12)
    run = run_tiny(data, tmp_path / "run", *AUTO, resume=True)
    assert micro_batch_of(run) == 2
    assert rehearsed == []
    assert_bit_equal(run.folder, whole.folder)


def test_images_are_tried_at_their_largest(tmp_path):
    """The tallest and the widest image decide, since a batch is padded to both; with objects."""
    data = write_data(tmp_path / "data", images=4, size=80)
    training = open_dataset(data / "annotations" / "train.json", "all")
    training.sizes_px[:] = [(80, 80), (40, 120), (100, 50), (80, 80)]
    largest = fit_micro_batch.largest_images(training, Preprocessing(64, 128), 100, True)
    assert (largest.height_px, largest.width_px, largest.objects) == (128, 128, 2)
    minibatch = largest.minibatch(3)
    assert minibatch.batch.pixels.shape == (3, 3, 128, 128)
    assert [len(target) for target in minibatch.targets] == [2, 2, 2]
    assert minibatch.targets[0].masks.unpack().shape == (2, 128, 128)
    assert torch.all(minibatch.batch.valid)
