"""Objects in many pictures: read ahead in threads, answered in batches of one shape."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from setmatch.data.image_io import read_image
from setmatch.data.transforms import preprocess
from setmatch.errors import ConfigError, DataError
from setmatch.inference.engines.eager import infer, instance_masks, segments_in
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.segments import Segments
from setmatch.visualize import draw, draw_segments

Reader = Callable[[int], UInt8[Tensor, "3 H W"]]

_READERS = 2  # threads; decoding releases the interpreter
_WAITING_BATCHES = 4


@dataclass(frozen=True)
class ImageResult(Detections):
    """The detections of one picture, and which picture that was: a file, or its pixels.

    `segments` say what is at every pixel, where the model has a mask head.
    """

    segments: Segments | None = None
    path: Path | None = None
    image: UInt8[Tensor, "3 H W"] | None = field(default=None, repr=False)

    def draw(self) -> Image.Image:
        """Return the picture with every detection or segment on it, as an RGB Pillow image.

        Raises DataError when the file cannot be read any more.
        """
        image = self.image
        if image is None:
            assert self.path is not None, "an answer knows its picture or where it lies"
            image = read_image(self.path)
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        if self.segments is None:
            return draw(picture, self)
        return draw_segments(picture, self.segments)


@dataclass(frozen=True)
class PredictOptions:
    """What counts as found, and how many pictures are asked about at once.

    Detections score more than `threshold`; segments are merged from what scores more than
    `segment_threshold`, or than what suits the model. Raises ConfigError for what is out of range.
    """

    threshold: float
    segment_threshold: float | None
    batch_size: int

    def __post_init__(self) -> None:
        for threshold in (self.threshold, self.segment_threshold):
            if threshold is not None and not 0 <= threshold <= 1:
                raise ConfigError(f"threshold = {threshold}: scores lie between 0 and 1")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size = {self.batch_size}: a batch holds at least one picture")


@dataclass(frozen=True)
class _Prepared:
    number: int
    image: UInt8[Tensor, "3 H W"]
    pixels: Float[Tensor, "3 h w"]


def find(
    model: Detector, count: int, read: Reader, terms: PredictOptions
) -> Iterator[tuple[int, ImageResult | DataError]]:
    """Yield what is in pictures 0 to `count` as soon as a batch of one shape is full, in any order.

    With an answer comes its picture, which `read` gives by number; instead of one, why it could
    not be read. However many shapes there are, only the pictures of a few batches are held at a
    time. Raises WeightsError when an answer is not finite.
    """
    waiting: dict[torch.Size, list[_Prepared]] = {}
    for picture in _read_ahead(count, read, model.card.preprocessing, 2 * terms.batch_size):
        if not isinstance(picture, _Prepared):
            yield picture
            continue
        waiting.setdefault(picture.pixels.shape, []).append(picture)
        shape = max(waiting, key=lambda shape: len(waiting[shape]))
        full = len(waiting[shape]) == terms.batch_size
        if full or sum(map(len, waiting.values())) >= _WAITING_BATCHES * terms.batch_size:
            yield from _found(model, waiting.pop(shape), terms)
    for pictures in waiting.values():
        yield from _found(model, pictures, terms)


def _found(
    model: Detector, pictures: Sequence[_Prepared], terms: PredictOptions
) -> Iterator[tuple[int, ImageResult]]:
    sizes_px = [(each.image.shape[1], each.image.shape[2]) for each in pictures]
    batch = Batch.from_images([each.pixels for each in pictures])
    answer = infer(model, batch, sizes_px)
    predictions = answer.predictions
    found = [each.above(terms.threshold) for each in answer.detections]
    segments: Sequence[Segments | None] = [None] * len(pictures)
    if predictions is not None and predictions.masks is not None:
        found = instance_masks(model, predictions, batch, sizes_px, terms.threshold)
        segments = segments_in(model, predictions, batch, sizes_px, terms.segment_threshold)
    for each, one, pieces in zip(pictures, found, segments, strict=True):
        yield (
            each.number,
            ImageResult(
                one.xyxy_px,
                one.scores,
                one.classes,
                one.categories,
                one.size_px,
                one.masks,
                segments=pieces,
                image=each.image,
            ),
        )


def _read_ahead(
    count: int, read: Reader, preprocessing: Preprocessing, ahead: int
) -> Iterator[_Prepared | tuple[int, DataError]]:
    """Read and prepare pictures in threads, `ahead` of whoever takes them, in order."""

    def load(number: int) -> _Prepared | tuple[int, DataError]:
        try:
            image = read(number)
        except DataError as error:
            return number, error
        return _Prepared(number, image, preprocess(image, preprocessing))

    queue: deque[Future[_Prepared | tuple[int, DataError]]] = deque()
    with ThreadPoolExecutor(_READERS) as readers:
        for number in range(count):
            queue.append(readers.submit(load, number))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
