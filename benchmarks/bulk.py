"""Detecting in a folder of images, against the engine's own throughput on the same pixels."""

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from setmatch.data.images.decoding import read_pixels
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy.onnx import to_onnx
from setmatch.inference.arrays.engine import open_array_engine
from setmatch.inference.arrays.predict_folder import predict_folder
from setmatch.inference.arrays.preprocess import preprocess
from setmatch.models.load import load
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
        seconds: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            start_s = time.perf_counter()
            for _ in range(options.images // BATCH):
                engine.detect(batch, sizes_px)
            seconds.setdefault("engine alone", []).append(time.perf_counter() - start_s)
            for name, drawn in (("predict", True), ("predict --no-images", False)):
                start_s = time.perf_counter()
                out = place / name
                predict_folder(
                    engine, [place / "images"], out, batch_size=BATCH, drawn=drawn, progress=False
                )
                seconds.setdefault(name, []).append(time.perf_counter() - start_s)
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
