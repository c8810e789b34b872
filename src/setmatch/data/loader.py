"""Batches: training's in the order that order.py deals out, evaluation's in equal shapes.

Workers return what went wrong with an image instead of raising, so that the main process can
report it in one line, or go on without the image.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from setmatch.config import DataSettings
from setmatch.data.corrupt_files import check_evaluation_corruption, check_training_corruption
from setmatch.data.dataset import DetectionDataset
from setmatch.data.image_io import read_image
from setmatch.data.num_workers import Workers, workers_for
from setmatch.data.sampler import Place, TrainSampler, grad_accum_steps, sample_seed
from setmatch.data.transforms import (
    evaluation_px,
    preprocess,
    training_transform,
    weak_augmentation,
)
from setmatch.errors import DataError
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.segments import Segments

_GRACE_S = 30  # as long as cluster managers wait between SIGTERM and SIGKILL


@dataclass(frozen=True)
class AugmentationStats:
    """What became of annotated objects on the way into training: how many, and of them how many
    were clipped at the edge of what is seen, or dropped because nothing of them was in it.
    """

    objects: int = 0
    clipped: int = 0
    dropped: int = 0

    def __add__(self, other: "AugmentationStats") -> "AugmentationStats":
        return AugmentationStats(
            self.objects + other.objects,
            self.clipped + other.clipped,
            self.dropped + other.dropped,
        )


@dataclass(frozen=True)
class Minibatch:
    """What one process takes through the model at once in training."""

    batch: Batch
    targets: tuple[Target, ...]
    image_ids: tuple[int, ...]

    def to(self, device: torch.device | str) -> "Minibatch":
        """Return the same on `device`, without waiting for the copy."""
        targets = tuple(target.to(device) for target in self.targets)
        return Minibatch(self.batch.to(device), targets, self.image_ids)

    def pin_memory(self) -> "Minibatch":
        """Return the same in page-locked memory."""
        targets = tuple(target.pin_memory() for target in self.targets)
        return Minibatch(self.batch.pin_memory(), targets, self.image_ids)


@dataclass(frozen=True)
class EvaluationBatch:
    """Images of one shape, nothing padded, with the (height, width) their answers refer to.

    `segments` are what is annotated in each of them, if that was asked for.
    """

    batch: Batch
    image_ids: tuple[int, ...]
    sizes_px: tuple[tuple[int, int], ...]
    segments: tuple[Segments, ...] = ()

    def to(self, device: torch.device | str) -> "EvaluationBatch":
        """Return the same on `device`, without waiting for the copy."""
        return replace(self, batch=self.batch.to(device))

    def pin_memory(self) -> "EvaluationBatch":
        """Return the same in page-locked memory."""
        return replace(self, batch=self.batch.pin_memory())


class TrainingBatches:
    """The minibatches of one process, in order.

    So far, `unreadable` lists the images left out, and `seen` counts what was cut off the others.
    """

    def __init__(self, samples: "_TrainingSamples", order: TrainSampler, workers: int) -> None:
        self.unreadable: list[str] = []
        self.seen = AugmentationStats()
        self._samples = samples
        self._order = order
        self._workers = workers

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Minibatch]:
        for loaded in _load(self._samples, self._order, self._workers):
            self._judge(loaded.problems)
            self.seen += loaded.seen
            assert loaded.batch is not None, "problems within the limit leave a batch"
            yield loaded.batch

    def _judge(self, problems: Sequence[str]) -> None:
        self.unreadable += [problem for problem in problems if problem not in self.unreadable]
        check_training_corruption(self._samples.index, self.unreadable, self._samples.skip)


class EvaluationBatches:
    """The evaluation batches of one process; the lengths are known before reading any image.

    So far, `unreadable` says what is wrong with the images that are missing from their batches, by
    their numbers in the index.
    """

    def __init__(self, samples: "_EvaluationSamples", order: list[list[int]], workers: int) -> None:
        self.unreadable: dict[int, str] = {}
        self._samples = samples
        self._order = order
        self._workers = workers

    def __len__(self) -> int:
        return len(self._order)

    @property
    def images(self) -> int:
        """Number of images in all batches of this process."""
        return sum(map(len, self._order))

    def __iter__(self) -> Iterator[EvaluationBatch]:
        for loaded in _load(self._samples, self._order, self._workers):
            self.unreadable |= loaded.unreadable
            check_evaluation_corruption(self._samples.index, self.unreadable)
            if loaded.batch is not None:
                yield loaded.batch


def training_batches(
    index: DetectionDataset,
    data: DataSettings,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    steps: int,
    micro_batch: int | None = None,
    rank: int = 0,
    world: int = 1,
    first_step: int = 0,
    seed: int = 42,
    masks: bool = False,
) -> TrainingBatches:
    """Return the minibatches that process `rank` of `world` takes from `first_step` on.

    Each has `micro_batch` images, by default a process' whole part of `batch_size`.

    Pictures are seen as `preprocessing` says; `masks` asks for those of the objects; that changes
    nothing else, but leaves out objects without a pixel. The random numbers of a sample come from
    (seed, epoch, image) alone. Raises ConfigError when `batch_size` cannot be
    dealt out, DataError when there are no masks to ask for, and while iterating DataError for an
    image that cannot be read: with "skip" only when more than 1% of the images cannot.
    Skipped images are missing from their minibatch; one that would be empty takes the next
    readable image of the index.
    """
    micro_batch = batch_size // world if micro_batch is None else micro_batch
    grad_accum_steps(batch_size, micro_batch, world)
    order = TrainSampler(len(index), batch_size, micro_batch, rank, world, first_step, steps, seed)
    if masks:
        index.require_masks()
    samples = _TrainingSamples(index, data, preprocessing, seed, masks)
    return TrainingBatches(samples, order, workers_for(data.workers, world))


def evaluation_batches(
    index: DetectionDataset,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: Workers,
    rank: int = 0,
    world: int = 1,
    segments: bool = False,
) -> EvaluationBatches:
    """Return batches of equal shape in which each image comes once, over all `world` processes.

    Largest shapes come first, so that memory that does not suffice shows at once. `segments` asks
    for the annotated ones of panoptic data as well. An image of which either cannot be read is
    missing from its batch; so many of them that `check_evaluation_corruption` does raise DataError
    while
    iterating. Raises ConfigError for `workers` below 0, DataError where there are no segments.
    """
    sizes_px, size_of = np.unique(index.sizes_px, axis=0, return_inverse=True)
    shapes = np.array([evaluation_px((h, w), preprocessing) for h, w in sizes_px.tolist()])
    shapes, shape_of = np.unique(shapes, axis=0, return_inverse=True)
    image_shape = shape_of[size_of.reshape(-1)]
    order: list[list[int]] = []
    for shape in np.argsort(-shapes.prod(axis=1), kind="stable"):
        images = np.flatnonzero(image_shape == shape).tolist()
        order += [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    if segments:
        index.require_segments()
    samples = _EvaluationSamples(index, preprocessing, segments)
    return EvaluationBatches(samples, order[rank::world], workers_for(workers, world))


Kind = TypeVar("Kind", Minibatch, EvaluationBatch)


@dataclass(frozen=True)
class _Loaded(Generic[Kind]):
    """What a worker hands over: a batch, and what was wrong with images that are not in it."""

    batch: Kind | None
    problems: tuple[str, ...] = ()
    seen: AugmentationStats = AugmentationStats()
    unreadable: Mapping[int, str] = field(default_factory=dict)  # by number in the index

    def pin_memory(self) -> "_Loaded[Kind]":
        return replace(self, batch=self.batch and self.batch.pin_memory())


class _TrainingSamples(Dataset[_Loaded[Minibatch]]):
    """Minibatches by the places (epoch, image) of their samples."""

    def __init__(
        self,
        index: DetectionDataset,
        data: DataSettings,
        preprocessing: Preprocessing,
        seed: int,
        masks: bool,
    ) -> None:
        self.index = index
        self.skip = data.on_bad_image == "skip"
        self._masks = masks
        self._transform = training_transform(data.augment, preprocessing)
        self._at_first = training_transform(weak_augmentation(data.augment), preprocessing)
        self._epochs_at_first = data.strong_augment_from_epoch
        self._seed = seed

    def __getitem__(self, places: list[Place]) -> _Loaded[Minibatch]:
        problems: list[str] = []
        samples = [self._sample(place, problems) for place in places]
        epoch, last = places[-1]
        for step in range(1, len(self.index)):
            if not self.skip or any(samples):
                break
            samples.append(self._sample((epoch, (last + step) % len(self.index)), problems))
        found = [sample for sample in samples if sample is not None]
        if not found or (problems and not self.skip):
            return _Loaded(None, tuple(problems))
        images, targets, image_ids, seen = zip(*found, strict=True)
        minibatch = Minibatch(Batch.from_images(images), targets, image_ids)
        return _Loaded(minibatch, tuple(problems), sum(seen, AugmentationStats()))

    def _sample(
        self, place: Place, problems: list[str]
    ) -> tuple[torch.Tensor, Target, int, AugmentationStats] | None:
        epoch, image = place
        try:
            pixels = read_image(self.index.path(image), self.index.size_px(image))
            target = self.index.target(image, self._masks)
        except DataError as error:
            problems.append(str(error))
            return None
        # Forked, so that dropout's random numbers in this process do not notice; only the CPU's
        # generator, because seeding a GPU's from a worker is impossible.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(sample_seed(self._seed, epoch, image))
            transform = self._at_first if epoch < self._epochs_at_first else self._transform
            pixels, after, clipped = transform(pixels, target)
        seen = AugmentationStats(len(target), clipped, len(target) - len(after))
        return pixels, after, int(self.index.image_ids[image]), seen


class _EvaluationSamples(Dataset[_Loaded[EvaluationBatch]]):
    """Evaluation batches by the numbers of their images."""

    def __init__(
        self, index: DetectionDataset, preprocessing: Preprocessing, segments: bool
    ) -> None:
        self.index = index
        self._preprocessing = preprocessing
        self._segments = segments

    def __getitem__(self, images: list[int]) -> _Loaded[EvaluationBatch]:
        # The annotated size decides, so that a file stored smaller still fits into its batch.
        shape = evaluation_px(self.index.size_px(images[0]), self._preprocessing)
        pixels, unreadable, segments = {}, {}, []
        for image in images:
            try:
                read = read_image(self.index.path(image), self.index.size_px(image))
                segments += [self.index.segments(image)] if self._segments else []
            except DataError as error:
                unreadable[image] = str(error)
            else:
                pixels[image] = preprocess(read, self._preprocessing, shape)
        if not pixels:
            return _Loaded(None, unreadable=unreadable)
        batch = EvaluationBatch(
            Batch.from_images(list(pixels.values())),
            tuple(self.index.image_ids[list(pixels)].tolist()),
            tuple(map(self.index.size_px, pixels)),
            tuple(segments),
        )
        return _Loaded(batch, unreadable=unreadable)


def _load(samples: Dataset[_Loaded[Kind]], order: Any, workers: int) -> Iterator[_Loaded[Kind]]:
    """Yield the samples in order, from `workers` processes that live as long as the iteration."""
    loader = DataLoader(
        samples,
        sampler=order,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_main_process,
        pin_memory=torch.cuda.is_available(),
        # Its own generator: the default would draw a number from the main process' state.
        generator=torch.Generator(),
    )
    yield from loader


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _leave_signals_to_the_main_process(worker: int) -> None:
    # Ctrl-C, and often SIGTERM, reach every process of the group, but the main one decides when to
    # stop, and needs its workers until then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_in_time)


def _end_in_time(number: int, frame: FrameType | None) -> None:
    """Obey a second SIGTERM at once, and the first when the main process had time to save."""
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(_GRACE_S)
