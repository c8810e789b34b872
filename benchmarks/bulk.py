"""Detecting in a folder of images, against the engine's own throughput on the same pixels."""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from setmatch.data.images.decoding import read_pixels
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy.formats.onnx import to_onnx
from setmatch.inference.arrays.engine import open_array_engine
from setmatch.inference.arrays.predict_folder import predict_folder
from setmatch.inference.arrays.preprocess import preprocess
from setmatch.models.load import load
from setmatch.structures.detection_arrays import DetectionArrays
from timing import publish

BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="bloodcells_n")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="photographs; the default are generated")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # and OMP_NUM_THREADS=1 for ONNX Runtime
    with TemporaryDirectory() as folder:
        place = Path(folder)
        to_onnx(load(options.model)).save(place / "model.onnx")
        engine = open_array_engine(place / "model.onnx")
        assert engine is not None, "the model has no masks"
        paths = _images(place / "images", options.folder, options.images)
        pixels = preprocess(read_pixels(paths[0]), engine.card.preprocessing)
        batch = np.stack([pixels] * BATCH)
        sizes_px = [(480, 640)] * BATCH
        detect, computing_s = engine.detect, 0.0

        def timed(pixels: np.ndarray, sizes_px: Sequence[tuple[int, int]]) -> list[DetectionArrays]:
            nonlocal computing_s
            start_s = time.perf_counter()
            found = detect(pixels, sizes_px)
            computing_s += time.perf_counter() - start_s
            return found

        engine.detect = timed  # type: ignore[method-assign]  # to see how long it computes
        seconds: dict[str, list[float]] = {}
        busy: dict[str, list[float]] = {}
        processor_s: dict[str, list[float]] = {}
        runs: dict[str, Callable[[], object]] = {
            "engine alone": lambda: [
                engine.detect(batch, sizes_px) for _ in range(options.images // BATCH)
            ],
            "predict": lambda: predict_folder(
                engine, [place / "images"], place / "all", batch_size=BATCH, progress=False
            ),
            "predict --no-images": lambda: predict_folder(
                engine,
                [place / "images"],
                place / "rows",
                batch_size=BATCH,
                drawn=False,
                progress=False,
            ),
        }
        for _ in range(options.rounds):
            for name, run in runs.items():
                computing_s, start_s, used_s = 0.0, time.perf_counter(), time.process_time()
                run()
                taken_s = time.perf_counter() - start_s
                seconds.setdefault(name, []).append(taken_s)
                busy.setdefault(name, []).append(computing_s / taken_s)
                used_s = time.process_time() - used_s
                processor_s.setdefault(name, []).append(used_s / options.images)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    publish(
        f"{options.images} images by {options.model} in batches of {BATCH}, one thread for ONNX "
        "Runtime: images per second, and how much of the engine's own throughput that is",
        {
            "images_per_s": {
                name: round(options.images / each, 1) for name, each in medians.items()
            },
            "of_the_engine": {
                name: round(medians["engine alone"] / each, 3) for name, each in medians.items()
            },
            "share_of_time_in_the_engine": {
                name: round(statistics.median(each), 3) for name, each in busy.items()
            },
            "processor_ms_per_image": {
                name: round(1000 * statistics.median(each), 1) for name, each in processor_s.items()
            },
            "load": [round(each, 1) for each in os.getloadavg()],
        },
        options.json,
    )


def _images(folder: Path, photos: Path | None, count: int) -> list[Path]:
    """Fill a folder with links to photographs, in turns, or with generated images."""
    folder.mkdir()
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    found = sorted(photos.rglob("*.jpg")) if photos is not None else []
    for number, path in enumerate(paths):
        if found:
            path.symlink_to(found[number % len(found)].absolute())
        else:
            Image.fromarray(scene((0, number), 640).pixels[:480]).save(path, quality=92)
    return paths


if __name__ == "__main__":
    main()
