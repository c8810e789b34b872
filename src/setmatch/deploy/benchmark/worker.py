"""The process that runs one model with one engine: requests come in on stdin, responses go out.

Each request and each response is a line of JSON. A process of its own has the memory of its model
alone, and an exported file runs without torch there, as it does for a user.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from setmatch.errors import SetmatchError, short
from setmatch.files.process_memory import peak_bytes
from setmatch.inference.arrays.engine import open_array_engine
from setmatch.ops.image_size import evaluation_px
from setmatch.structures.metadata import Preprocessing

USUAL_PX = (480, 640)  # (height, width) of an image, before it is resized for the model
Run = Callable[[np.ndarray], object]  # detects in pixels (B, 3, H, W)


class Model:
    """A model that is ready to detect in random pixels of `size_px`, by default its usual ones.

    `trust` lets a file run the compiled code that it holds.
    """

    def __init__(self, source: str, trust: bool, size_px: tuple[int, int] | None) -> None:
        self._run, preprocessing, self.file_bytes = _opened(source, trust)
        self.size_px = size_px or evaluation_px(USUAL_PX, preprocessing)

    def seconds(self, batch: int, count: int) -> list[float]:
        """Return the seconds that each of `count` batches takes."""
        shape = (batch, 3, *self.size_px)
        pixels = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        taken = []
        for _ in range(count):
            start_s = time.perf_counter()
            self._run(pixels)
            taken.append(time.perf_counter() - start_s)
        return taken


def _opened(source: str, trust: bool) -> tuple[Run, Preprocessing, int]:
    """Return what runs a model, its preprocessing, and the bytes of its file or weights."""
    arrays = open_array_engine(source)
    if arrays is not None:
        detect = arrays.detect
        return lambda pixels: detect(pixels, _sizes(pixels)), arrays.card.preprocessing, _of(source)
    import torch

    from setmatch.inference.engines.eager import EagerEngine, as_engine
    from setmatch.inference.engines.load import load
    from setmatch.structures.batch import Batch

    engine = as_engine(load(source, trust=trust))
    size = _of(source)
    if isinstance(engine, EagerEngine):
        size = sum(each.nbytes for each in engine.detector.state_dict().values())

    def run(pixels: np.ndarray) -> object:
        return engine.detect(
            Batch.from_images(list(torch.from_numpy(pixels).unbind())), _sizes(pixels)
        )

    return run, engine.card.preprocessing, size


def _sizes(pixels: np.ndarray) -> list[tuple[int, int]]:
    return [(pixels.shape[2], pixels.shape[3])] * len(pixels)


def _of(source: str) -> int:
    """Return the bytes of a file, and of others of its name that belong to it."""
    path = Path(source)
    files = [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    return sum(each.stat().st_size for each in files if each.is_file())


def respond(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """Return the response to a request: the seconds of batches, and the memory up to then."""
    seconds = model.seconds(request["batch"], request["count"])
    return {"seconds": seconds, "peak_bytes": peak_bytes()}


def serve(requests: TextIO, responses: TextIO) -> None:
    """Open the model that the first request names, and time batches for each other one."""

    def write(tree: dict[str, Any]) -> None:
        responses.write(json.dumps(tree) + "\n")
        responses.flush()

    model: Model | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if model is None:
                size_px = request["size_px"]
                size_px = tuple(size_px) if size_px else None
                model = Model(request["source"], request["trust"], size_px)
                write({"size_px": model.size_px, "file_bytes": model.file_bytes})
            else:
                write(respond(model, request))
        except (SetmatchError, OSError, MemoryError, RuntimeError, ValueError) as error:
            write({"error": short(" ".join(str(error).split()), 400).strip("'\"")})


if __name__ == "__main__":
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that print must not end up among the responses
    serve(sys.stdin, replies)
