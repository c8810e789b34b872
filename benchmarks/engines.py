"""An exported file in ONNX Runtime, and plain operations in PyTorch, against the eager engine."""

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from setmatch.deploy.onnx import to_onnx
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import EagerEngine, evaluation_copy
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.models.load import load
from setmatch.models.plain_operations import with_plain_operations
from setmatch.structures.batch import Batch
from timing import publish, time_interleaved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="bloodcells_n")
    parser.add_argument("--height", type=int, default=640)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    detector = load(options.model)
    size_px = (options.height, options.width)
    batch = Batch.from_images([torch.randn(3, *size_px)])
    with TemporaryDirectory() as folder:
        to_onnx(detector).save(Path(folder, "model.onnx"))
        plain = with_plain_operations(evaluation_copy(detector))
        engines: dict[str, Engine] = {
            "eager": EagerEngine(detector),
            "eager, plain operations": EagerEngine(plain),
            "onnxruntime": OnnxRuntimeEngine(Path(folder, "model.onnx")),
        }
        seconds = time_interleaved(
            {name: partial(each.detect, batch, [size_px]) for name, each in engines.items()},
            options.rounds,
            warmup=3,
        )
    speed = {name: round(seconds["eager"] / taken, 3) for name, taken in seconds.items()}
    publish(
        f"{options.model}, one image of {options.height}x{options.width}, one thread",
        {"milliseconds": {name: round(1000 * s, 1) for name, s in seconds.items()}, "speed": speed},
        options.json,
    )


if __name__ == "__main__":
    main()
