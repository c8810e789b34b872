"""Load batches: for training in the order of sampler.py, for evaluation grouped by shape.

Workers return the error of an unreadable image instead of raising it. The main process then
reports it in one line, or continues without the image.
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
from setmatch.data.batches.combine_images import Combination
from setmatch.data.batches.decoded_images import Decoded, DecodedImages
from setmatch.data.batches.num_workers import Workers, workers_for
from setmatch.data.batches.random_tile import tile_of
from setmatch.data.batches.sampler import Place, TrainSampler, grad_accum_steps, sample_seed
from setmatch.data.batches.transforms import (
    evaluation_px,
    mosaic_transform,
    preprocess,
    training_transform,
    weak_augmentation,
)
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.corrupt_files import (
    check_evaluation_corruption,
    check_training_corruption,
)
from setmatch.data.images.image_io import read_image
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile
from setmatch.errors import ConfigError
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.segments import Segments

_GRACE_S = 30  # the time that cluster managers leave between SIGTERM and SIGKILL


@dataclass(frozen=True)
class AugmentationStats:
    """What augmentation did to annotated objects: counts of objects."""

    objects: int = 0  # before augmentation
    clipped: int = 0  # at the edge of the augmented image
    dropped: int = 0  # outside the augmented image

    def __add__(self, other: "AugmentationStats") -> "AugmentationStats":
        return AugmentationStats(
            self.objects + other.objects,
            self.clipped + other.clipped,
            self.dropped + other.dropped,
        )


@dataclass(frozen=True)
class Minibatch:
    """The images and targets that one process trains on at once."""

    batch: Batch
    targets: tuple[Target, ...]
    image_ids: tuple[int, ...]

    def split(self, parts: int) -> "list[Minibatch]":
        """Return its images in so many minibatches, or one for each image if they are fewer."""
        size = -(-len(self.targets) // parts)
        cuts = [slice(start, start + size) for start in range(0, len(self.targets), size)]
        return [
            Minibatch(self.batch.part(cut), self.targets[cut], self.image_ids[cut]) for cut in cuts
        ]

    def to(self, device: torch.device | str) -> "Minibatch":
        """Return a copy on `device`, without waiting for the copy to finish."""
        targets = tuple(target.to(device) for target in self.targets)
        return Minibatch(self.batch.to(device), targets, self.image_ids)

    def pin_memory(self) -> "Minibatch":
        """Return a copy in page-locked memory."""
        targets = tuple(target.pin_memory() for target in self.targets)
        return Minibatch(self.batch.pin_memory(), targets, self.image_ids)


@dataclass(frozen=True)
class EvaluationBatch:
    """Images of one shape, without padding, and the (height, width) that detections refer to.

    `segments` are the annotated segments of each image, if requested.
    """

    batch: Batch
    image_ids: tuple[int, ...]
    sizes_px: tuple[tuple[int, int], ...]
    segments: tuple[Segments, ...] = ()

    def to(self, device: torch.device | str) -> "EvaluationBatch":
        """Return a copy on `device`, without waiting for the copy to finish."""
        return replace(self, batch=self.batch.to(device))

    def pin_memory(self) -> "EvaluationBatch":
        """Return a copy in page-locked memory."""
        return replace(self, batch=self.batch.pin_memory())


class TrainingBatches:
    """The minibatches of one process, in order.

    While iterating, `unreadable` collects the images left out, and
    `augmentation_stats` counts objects that augmentation clipped or dropped.
    """

    def __init__(self, samples: "_TrainingSamples", order: TrainSampler, workers: int) -> None:
        self.unreadable: list[UnreadableFile] = []
        self.augmentation_stats = AugmentationStats()
        self._samples = samples
        self._order = order
        self._workers = workers

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Minibatch]:
        for loaded in _load(self._samples, self._order, self._workers):
            self._check(loaded.problems)
            self.augmentation_stats += loaded.augmentation_stats
            assert loaded.batch is not None, "problems within the limit leave a batch"
            yield loaded.batch

    def _check(self, problems: Sequence[UnreadableFile]) -> None:
        self.unreadable = list(dict.fromkeys([*self.unreadable, *problems]))
        check_training_corruption(self._samples.dataset, self.unreadable, self._samples.skip)


def require_uncombined(data: DataSettings) -> None:
    """Raise ConfigError if images are to be combined, which is done with boxes, not masks."""
    if data.mosaic or data.mixup or data.copies:
        raise ConfigError(
            "data.mosaic, data.mixup and data.copies combine boxes, but no masks: set all to 0, or "
            "train a model without masks"
        )


class EvaluationBatches:
    """The evaluation batches of one process. Their number is known before any image is read.

    While iterating, `unreadable` collects the images missing from their batches, by
    their numbers in the data set.
    """

    def __init__(self, samples: "_EvaluationSamples", order: list[list[int]], workers: int) -> None:
        self.unreadable: dict[int, UnreadableFile] = {}
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
            check_evaluation_corruption(self._samples.dataset, self.unreadable)
            if loaded.batch is not None:
                yield loaded.batch


def training_batches(
    dataset: DetectionDataset,
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
    epochs: int | None = None,
) -> TrainingBatches:
    """Return the minibatches of process `rank` of `world`, starting at `first_step`.

    Images are resized and normalized by `preprocessing`. `masks` adds the objects' masks, and
    leaves out objects without a pixel. `epochs` is the length of the run, if it is known. The
    random numbers of a sample depend only on (seed, epoch, image).

    Raises ConfigError when `batch_size` cannot be divided or masks are to be combined, and
    DataError when `masks` are requested but do not exist. Iterating raises DataError for an
    unreadable image; with `data.on_bad_image = "skip"`, only when more than 1% of the images are
    unreadable. Skipped images are missing from their minibatch. A minibatch that would be empty
    takes the next readable image.
    """
    micro_batch = batch_size // world if micro_batch is None else micro_batch
    grad_accum_steps(batch_size, micro_batch, world)
    order = TrainSampler(
        len(dataset), batch_size, micro_batch, rank, world, first_step, steps, seed
    )
    if masks:
        dataset.require_masks()
        require_uncombined(data)
    workers = workers_for(data.workers, world)
    # Every process that reads images has an equal part of the memory.
    limit_bytes = data.keep_decoded_mb * 1_000_000 // max(workers, 1)
    images = DecodedImages(dataset, masks, limit_bytes)
    samples = _TrainingSamples(dataset, images, data, preprocessing, seed, epochs)
    return TrainingBatches(samples, order, workers)


def evaluation_batches(
    dataset: DetectionDataset,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: Workers,
    rank: int = 0,
    world: int = 1,
    segments: bool = False,
) -> EvaluationBatches:
    """Return batches of one shape each, in which every image appears once over all processes.

    The largest shapes come first, so that insufficient memory shows immediately. `segments` adds
    the annotated segments of panoptic data. An image is missing from its batch if it or its
    segments cannot be read. Iterating raises DataError when `check_evaluation_corruption` does.
    Raises ConfigError for `workers` below 0, and DataError where there are no segments.
    """
    sizes_px, size_of = np.unique(dataset.sizes_px, axis=0, return_inverse=True)
    shapes = np.array([evaluation_px((h, w), preprocessing) for h, w in sizes_px.tolist()])
    shapes, shape_of = np.unique(shapes, axis=0, return_inverse=True)
    image_shape = shape_of[size_of.reshape(-1)]
    order: list[list[int]] = []
    for shape in np.argsort(-shapes.prod(axis=1), kind="stable"):
        images = np.flatnonzero(image_shape == shape).tolist()
        order += [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    if segments:
        dataset.require_segments()
    samples = _EvaluationSamples(dataset, preprocessing, segments)
    return EvaluationBatches(samples, order[rank::world], workers_for(workers, world))


Kind = TypeVar("Kind", Minibatch, EvaluationBatch)


@dataclass(frozen=True)
class _Loaded(Generic[Kind]):
    """What a worker returns: a batch, and the errors of images that are missing from it."""

    batch: Kind | None
    problems: tuple[UnreadableFile, ...] = ()
    augmentation_stats: AugmentationStats = AugmentationStats()
    unreadable: Mapping[int, UnreadableFile] = field(default_factory=dict)  # by number of the image

    def pin_memory(self) -> "_Loaded[Kind]":
        return replace(self, batch=self.batch and self.batch.pin_memory())


class _TrainingSamples(Dataset[_Loaded[Minibatch]]):
    """Maps the places (epoch, image) of samples to a minibatch."""

    def __init__(
        self,
        dataset: DetectionDataset,
        images: DecodedImages,
        data: DataSettings,
        preprocessing: Preprocessing,
        seed: int,
        epochs: int | None,
    ) -> None:
        self.dataset = dataset
        self.skip = data.on_bad_image == "skip"
        self._images = images
        self._transform = training_transform(data.augment, preprocessing)
        self._mosaic_transform = mosaic_transform(data.augment, preprocessing)
        self._weak_transform = training_transform(weak_augmentation(data.augment), preprocessing)
        self._strong_from = data.strong_augment_from_epoch
        self._strong_until = None if epochs is None else data.strong_augment_until * epochs
        self._seed = seed
        self._combines = max(data.mosaic, data.mixup, data.copies) > 0
        self._combine_until = None if epochs is None else data.combine_until * epochs
        self._data = data
        self._tile = tile_of(data.tiles, preprocessing)

    def __getitem__(self, places: list[Place]) -> _Loaded[Minibatch]:
        # Forked, so that dropout's random numbers in this process stay the same. Only the CPU's
        # generator, because a worker cannot seed a GPU's.
        with torch.random.fork_rng(devices=[]):
            return self._minibatch(places)

    def _minibatch(self, places: list[Place]) -> _Loaded[Minibatch]:
        problems: list[UnreadableFile] = []
        samples = [self._sample(place, problems) for place in places]
        epoch, last = places[-1]
        for step in range(1, len(self.dataset)):
            if not self.skip or any(samples):
                break
            samples.append(self._sample((epoch, (last + step) % len(self.dataset)), problems))
        readable = [sample for sample in samples if sample is not None]
        if not readable or (problems and not self.skip):
            return _Loaded(None, tuple(problems))
        images, targets, image_ids, stats = zip(*readable, strict=True)
        minibatch = Minibatch(Batch.from_images(images), targets, image_ids)
        return _Loaded(minibatch, tuple(problems), sum(stats, AugmentationStats()))

    def _sample(
        self, place: Place, problems: list[UnreadableFile]
    ) -> tuple[torch.Tensor, Target, int, AugmentationStats] | None:
        epoch, image = place
        try:
            decoded = self._images[image]
        except UnreadableError as error:
            problems.append(error.file)
            return None
        torch.default_generator.manual_seed(sample_seed(self._seed, epoch, image))
        (pixels, target), is_mosaic = self._view(decoded), False
        if self._combines and self._is_combined(epoch):
            (pixels, target), is_mosaic = self._combination(problems)((pixels, target))
        strong = self._mosaic_transform if is_mosaic else self._transform
        transform = strong if self._is_strong(epoch) else self._weak_transform
        pixels, augmented, clipped = transform(pixels, target)
        stats = AugmentationStats(len(target), clipped, len(target) - len(augmented))
        return pixels, augmented, int(self.dataset.image_ids[image]), stats

    def _view(self, decoded: Decoded) -> Decoded:
        """Return the image, or a tile of it if training uses tiles."""
        return self._tile(decoded) if self._tile else decoded

    def _combination(self, problems: list[UnreadableFile]) -> Combination:
        def other(image: int) -> Decoded | None:
            try:
                return self._view(self._images[image])
            except UnreadableError as error:
                problems.append(error.file)
                return None

        data = self._data
        return Combination(data.mosaic, data.mixup, data.copies, len(self.dataset), other)

    def _is_combined(self, epoch: int) -> bool:
        ended = self._combine_until is not None and epoch >= self._combine_until
        return epoch >= self._strong_from and not ended

    def _is_strong(self, epoch: int) -> bool:
        ended = self._strong_until is not None and epoch >= self._strong_until
        return epoch >= self._strong_from and not ended


class _EvaluationSamples(Dataset[_Loaded[EvaluationBatch]]):
    """Maps the numbers of images to an evaluation batch."""

    def __init__(
        self, dataset: DetectionDataset, preprocessing: Preprocessing, segments: bool
    ) -> None:
        self.dataset = dataset
        self._preprocessing = preprocessing
        self._segments = segments

    def __getitem__(self, images: list[int]) -> _Loaded[EvaluationBatch]:
        # From the annotated size, so that an image stored smaller still fits into its batch.
        shape = evaluation_px(self.dataset.size_px(images[0]), self._preprocessing)
        pixels, unreadable, segments = {}, {}, []
        for image in images:
            try:
                image_pixels = read_image(self.dataset.path(image), self.dataset.size_px(image))
                segments += [self.dataset.segments(image)] if self._segments else []
            except UnreadableError as error:
                unreadable[image] = error.file
            else:
                pixels[image] = preprocess(image_pixels, self._preprocessing, shape)
        if not pixels:
            return _Loaded(None, unreadable=unreadable)
        batch = EvaluationBatch(
            Batch.from_images(list(pixels.values())),
            tuple(self.dataset.image_ids[list(pixels)].tolist()),
            tuple(map(self.dataset.size_px, pixels)),
            tuple(segments),
        )
        return _Loaded(batch, unreadable=unreadable)


def _load(samples: Dataset[_Loaded[Kind]], order: Any, workers: int) -> Iterator[_Loaded[Kind]]:
    """Yield the samples in order, from `workers` processes that end with the iteration."""
    loader = DataLoader(
        samples,
        sampler=order,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        worker_init_fn=_ignore_signals,
        pin_memory=torch.cuda.is_available(),
        # A generator of its own: the default would draw a number from the global one.
        generator=torch.Generator(),
    )
    yield from loader


def _unchanged(loaded: Any) -> Any:
    return loaded


def _ignore_signals(worker: int) -> None:
    # Ctrl-C, and often SIGTERM, reach every process of the group. The main process decides when to
    # stop, and needs its workers until then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit_later)


def _exit_later(number: int, frame: FrameType | None) -> None:
    """Exit after a grace period, in which the main process can save; a second SIGTERM exits now."""
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(_GRACE_S)
