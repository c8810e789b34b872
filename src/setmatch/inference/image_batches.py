"""Read images ahead in threads, and put those of one shape together into batches."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from setmatch.errors import DataError

_MAX_WAITING_BATCHES = 4


class _Shaped(Protocol):
    @property
    def shape(self) -> Any:
        """The sides of a tensor or array."""


Pixels = TypeVar("Pixels", bound=_Shaped)


@dataclass(frozen=True)
class LoadedImage(Generic[Pixels]):
    """The image of a number, as it was read, and as a model takes it."""

    number: int
    image: Pixels
    pixels: Pixels


@dataclass(frozen=True)
class UnreadImage:
    """The number of an image that cannot be read, and why."""

    number: int
    error: DataError


def image_batches(
    count: int,
    read: Callable[[int], Pixels],
    prepare: Callable[[Pixels], Pixels],
    batch_size: int,
    readers: int,
) -> Iterator[list[LoadedImage[Pixels]] | UnreadImage]:
    """Yield `count` images in batches of one shape, and those that cannot be read, in any order.

    `read` returns the image of a number from 0 to `count` - 1, or raises DataError. `prepare` makes
    it the input of a model; both are called in `readers` threads. Batches come as soon as they are
    full. However many shapes there are, only the images of a few batches are in memory at a time.
    """
    waiting: dict[tuple[int, ...], list[LoadedImage[Pixels]]] = {}
    for loaded in _read_ahead(count, read, prepare, readers, 2 * batch_size):
        if isinstance(loaded, UnreadImage):
            yield loaded
            continue
        waiting.setdefault(tuple(loaded.pixels.shape), []).append(loaded)
        shape = max(waiting, key=lambda shape: len(waiting[shape]))
        is_full = len(waiting[shape]) == batch_size
        if is_full or sum(map(len, waiting.values())) >= _MAX_WAITING_BATCHES * batch_size:
            yield waiting.pop(shape)
    yield from waiting.values()


def _read_ahead(
    count: int,
    read: Callable[[int], Pixels],
    prepare: Callable[[Pixels], Pixels],
    readers: int,
    least_ahead: int,
) -> Iterator[LoadedImage[Pixels] | UnreadImage]:
    """Read and prepare images in threads, ahead of the consumer; yield them in order."""
    ahead = max(least_ahead, readers)

    def load(number: int) -> LoadedImage[Pixels] | UnreadImage:
        try:
            image = read(number)
        except DataError as error:
            return UnreadImage(number, error)
        return LoadedImage(number, image, prepare(image))

    queue: deque[Future[LoadedImage[Pixels] | UnreadImage]] = deque()
    with ThreadPoolExecutor(readers) as pool:
        for number in range(count):
            queue.append(pool.submit(load, number))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
