"""Detection for many clients at once: images are decoded in threads while the model runs."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from setmatch.data.batches.transforms import preprocess
from setmatch.data.images.image_io import to_tensor
from setmatch.deploy.server.batching import Batcher
from setmatch.deploy.server.limits import Limits, Refusal
from setmatch.deploy.server.metrics import Metrics
from setmatch.deploy.server.reading import read_upload
from setmatch.inference.engines.base import Engine
from setmatch.inference.options import PredictOptions
from setmatch.inference.pipeline import ImageResult, detect_batch
from setmatch.structures.batch import Batch

_BATCHES_AHEAD = 2  # decoded images that wait, and those that are detected in
_SMOOTHING = 0.1  # of the time of an image

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Loaded:
    """An image as the model takes it; `image` is kept only if it is to be drawn on."""

    pixels: Float[Tensor, "3 h w"]
    size_px: tuple[int, int]
    options: PredictOptions
    image: UInt8[np.ndarray, "H W 3"] | None


class DetectionService:
    """Detects objects in the images of many clients, with one engine.

    Everything is bounded by `limits`; who comes when the queue is full is refused at once.
    """

    def __init__(self, engine: Engine, limits: Limits, metrics: Metrics) -> None:
        self.engine = engine
        self._limits = limits
        self._metrics = metrics
        self._decoders = ThreadPoolExecutor(max(os.cpu_count() or 1, 2), "decoder")
        self._ahead = asyncio.Semaphore(_BATCHES_AHEAD * limits.batch)
        self._inside = 0
        self._image_s = 0.0
        self._batcher: Batcher[_Loaded, ImageResult] = Batcher(
            self._run,
            lambda loaded: tuple(loaded.pixels.shape),
            limits.batch,
            limits.batch_wait_s,
            lambda: min(self._inside, _BATCHES_AHEAD * limits.batch),
        )

    def require_room(self) -> None:
        """Raise Refusal if the queue is full."""
        if self._inside >= self._limits.queue:
            raise Refusal(
                429, "the queue is full: send the image again later", self.retry_after_s()
            )

    def retry_after_s(self) -> int:
        """Return the seconds after which the images that are inside are done."""
        return max(1, math.ceil(self._inside * self._image_s))

    async def detect(
        self,
        content: bytes,
        options: PredictOptions,
        write: Callable[[ImageResult], Value],
        with_image: bool = False,
    ) -> Value:
        """Return what `write` makes of the detections in an image file, in a thread.

        It gets the image, and the segments of a model with a mask head, only `with_image`. Raises
        Refusal for an image that cannot be read, if the queue is full, or if it takes too long.
        """
        async with self._admission():
            result = await self._detect(content, options, with_image)
            return await self._in_thread(lambda: write(result))

    async def close(self) -> None:
        """Stop all threads."""
        await self._batcher.close()
        self._decoders.shutdown(cancel_futures=True)

    @asynccontextmanager
    async def _admission(self) -> AsyncIterator[None]:
        """Count whoever is inside, and end what takes too long."""
        self.require_room()
        self._inside += 1
        self._metrics.queue.set(self._inside)
        try:
            async with asyncio.timeout(self._limits.response_s):
                yield
        except TimeoutError:
            raise Refusal(
                503,
                f"the response takes longer than {self._limits.response_s:g} s: send the image "
                "again later",
                self.retry_after_s(),
            ) from None
        finally:
            self._inside -= 1
            self._metrics.queue.set(self._inside)

    async def _detect(
        self, content: bytes, options: PredictOptions, with_image: bool
    ) -> ImageResult:
        async with self._ahead:
            loaded = await self._in_thread(lambda: self._load(content, options, with_image))
            result = await self._batcher.result_of(loaded)
        self._metrics.detections.inc(len(result))
        return result

    async def _in_thread(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    def _load(self, content: bytes, options: PredictOptions, with_image: bool) -> _Loaded:
        image = read_upload(content, self._limits.max_pixels)
        pixels = preprocess(to_tensor(image), self.engine.card.preprocessing)
        size_px = (image.shape[0], image.shape[1])
        return _Loaded(
            pixels,
            size_px,
            replace(options, with_segments=with_image),
            image if with_image else None,
        )

    def _run(self, images: Sequence[_Loaded]) -> list[ImageResult]:
        started = time.perf_counter()
        results = detect_batch(
            self.engine,
            Batch.from_images([each.pixels for each in images]),
            [each.size_px for each in images],
            [each.options for each in images],
        )
        seconds = time.perf_counter() - started
        self._image_s += _SMOOTHING * (seconds / len(images) - self._image_s)
        self._metrics.batch.observe(len(images))
        self._metrics.batch_s.observe(seconds)
        return [
            result if each.image is None else replace(result, image=to_tensor(each.image))
            for result, each in zip(results, images, strict=True)
        ]


def warm_up(engine: Engine) -> None:
    """Detect in an empty image of a usual size: the first time takes longest, and may fail."""
    size_px = (480, 640)
    image = torch.zeros(3, *size_px, dtype=torch.uint8)
    batch = Batch.from_images([preprocess(image, engine.card.preprocessing)])
    detect_batch(engine, batch, [size_px], [PredictOptions.of(engine, None, None, 1)])
