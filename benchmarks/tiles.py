"""Small objects in large images: a model sees them whole, in tiles, and in the slices of SAHI.

    python benchmarks/tiles.py                        # paint, train on tiles, measure
    python benchmarks/tiles.py --model scenes_n       # measure a model that is there
    python benchmarks/tiles.py --sahi                 # beside SAHI (pip install sahi)

The images have 3000 x 4000 pixels and objects of 12 to 40 pixels. All predict with the same model
in the same run, image by image in turn; the seconds are those of the processor on one thread, so
that other programs do not count. The goals: tiles at least double the AP of small objects of whole
images, and have at least the AP of SAHI in at most its time.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

import setmatch as sm
from setmatch.data.synthetic.shapes import draw_cutout, paste
from setmatch.data.synthetic.textures import CLASSES, textured_background
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.tiles.engine import MOST_AT_ONCE
from setmatch.inference.tiles.views import OVERLAP
from setmatch.ops.image_size import tile_side_px
from timing import publish

OBJECT_PX = (12, 40)  # diameters, log-uniform
OBJECTS_PER_MEGAPIXEL = (4, 10)
LEAST_SCORE = 0.05
SAHI_MERGING = ("NMS", "GREEDYNMM")
RESULTS = Path(__file__).with_suffix(".json")

Pixels = UInt8[np.ndarray, "H W 3"]
Rows = list[dict[str, Any]]  # COCO results
Predict = Callable[[Pixels], Rows]


@dataclass(frozen=True)
class Scenes:
    """How many images to paint, and how large they are."""

    train: int = 32
    val: int = 8
    height: int = 3000
    width: int = 4000


def paint(seed: Sequence[int], height: int, width: int) -> tuple[Pixels, Rows]:
    """Return an image of small shapes that do not overlap, and its annotations."""
    rng = np.random.default_rng(seed)
    side = max(height, width)
    canvas = textured_background(rng, side)[:height, :width].copy()
    taken = np.zeros((height, width), dtype=bool)
    radii = OBJECT_PX[0] / 2 / side, OBJECT_PX[1] / 2 / side
    annotations: Rows = []
    count = round(rng.uniform(*OBJECTS_PER_MEGAPIXEL) * height * width / 1e6)
    while len(annotations) < count:
        class_index = int(rng.integers(len(CLASSES)))
        cutout = draw_cutout(rng, CLASSES[class_index], side, radii)
        rows, columns = cutout.window
        if rows.stop > height or columns.stop > width or taken[cutout.window].any():
            continue
        taken[cutout.window] = True
        paste(rng, canvas, cutout)
        y, x = (np.flatnonzero(cutout.covered.any(axis=axis)) for axis in (1, 0))
        box = (columns.start + x[0], rows.start + y[0], x[-1] - x[0] + 1, y[-1] - y[0] + 1)
        annotations.append(
            {
                "category_id": class_index + 1,
                "bbox": [int(each) for each in box],
                "area": int(cutout.covered.sum()),
                "iscrowd": 0,
            }
        )
    canvas += rng.normal(0, rng.uniform(1, 6), (height, width, 1))
    return np.clip(canvas, 0, 255).astype(np.uint8), annotations


def write_scenes(out: Path, scenes: Scenes, workers: int = 2) -> Path:
    """Write the images of both splits as COCO; return the folder."""
    (out / "annotations").mkdir(parents=True)
    (out / "images").mkdir()
    for number, (split, count) in enumerate((("train", scenes.train), ("val", scenes.val))):
        write = partial(_write, out / "images", split, number, scenes)
        if workers:
            with ProcessPoolExecutor(workers) as pool:
                annotated = list(pool.map(write, range(count)))
        else:
            annotated = list(map(write, range(count)))
        rows = [row | {"image_id": i + 1} for i, rows in enumerate(annotated) for row in rows]
        tree = {
            "images": [
                {
                    "id": image + 1,
                    "file_name": _name(split, image),
                    "height": scenes.height,
                    "width": scenes.width,
                }
                for image in range(count)
            ],
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
            "annotations": [{"id": i + 1} | row for i, row in enumerate(rows)],
        }
        (out / "annotations" / f"{split}.json").write_text(json.dumps(tree))
    return out


def _name(split: str, image: int) -> str:
    return f"{split}_{image:03d}.jpg"


def _write(folder: Path, split: str, number: int, scenes: Scenes, image: int) -> Rows:
    pixels, annotations = paint((number, image), scenes.height, scenes.width)
    Image.fromarray(pixels).save(folder / _name(split, image), quality=92, subsampling=0)
    return annotations


def train(data: Path, out: Path, epochs: int) -> None:
    """Train setmatch_n on tiles of 160 pixels, the size that its first weights know.

    They have seen such shapes, so that a tenth of the recipe's learning rates suits them.
    """
    overrides = [
        "data.short_side_px=160",
        "data.long_side_px=320",
        "data.keep_decoded_mb=1500",  # all images, so that none is decoded again
        f"train.evaluate_every={epochs}",
        *("train.lr=2e-4", "train.muon_lr=0.003", "train.full_size_at=0", "train.warmup_steps=10"),
    ]
    sm.train(data, model="setmatch_n", tiles="auto", epochs=epochs, out=out, overrides=overrides)


def measure(
    ways: Mapping[str, Predict], data: Path, clock: Callable[[], float] = time.process_time
) -> dict[str, dict[str, float]]:
    """Return AP, AP50, AP_S and the median seconds an image of each way to predict.

    The ways take turns, image by image. The first image is predicted once more, before, and that
    time does not count.
    """
    tree = json.loads((data / "annotations/val.json").read_text())
    found: dict[str, Rows] = {name: [] for name in ways}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number, image in enumerate([tree["images"][0], *tree["images"]]):
        with Image.open(data / "images" / image["file_name"]) as opened:
            pixels = np.array(opened.convert("RGB"))
        for name, predict in ways.items():
            start = clock()
            rows = predict(pixels)
            if number:
                taken[name].append(clock() - start)
                found[name] += [row | {"image_id": image["id"]} for row in rows]
    return {
        name: {**scores(found[name], data), "seconds": round(statistics.median(taken[name]), 2)}
        for name in ways
    }


def scores(rows: Rows, data: Path) -> dict[str, float]:
    """Return the AP of COCO results, with up to 1000 detections of an image."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "detections.json")
        saved.write_text(json.dumps(rows))
        report = sm.evaluate(saved, data, split="val", max_detections=1000)
    return {
        name: round(100 * value, 1)
        for name, value in (("AP", report.AP), ("AP50", report.AP50), ("AP_S", report.APs))
    }


def verdicts(measured: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return the ratios that the goals are about, and whether each goal is met."""
    whole, tiles = measured["whole"], measured["tiles"]
    found: dict[str, Any] = {
        "AP_S_above_whole_images": round(tiles["AP_S"] - whole["AP_S"], 1),
        "AP_S_at_least_doubled": tiles["AP_S"] >= 2 * whole["AP_S"] and tiles["AP_S"] > 0,
    }
    sliced = {name: each for name, each in measured.items() if name.startswith("sahi")}
    if sliced:
        best = max(sliced, key=lambda name: (sliced[name]["AP"], -sliced[name]["seconds"]))
        found |= {
            "best_of_sahi": best,
            "AP_above_sahi": round(tiles["AP"] - sliced[best]["AP"], 1),
            "times_as_fast_as_sahi": round(sliced[best]["seconds"] / tiles["seconds"], 2),
        }
        found["AP_same_or_better"] = found["AP_above_sahi"] >= 0
        found["at_least_as_fast"] = found["times_as_fast_as_sahi"] >= 1
    return found


def ways_to_predict(engine: Engine, side_px: int, sahi: bool) -> dict[str, Predict]:
    """Return the ways by name; all answer with COCO results of the same least score."""

    def ours(pixels: Pixels, tiles: int | None) -> Rows:
        found = sm.predict(engine, pixels, threshold=LEAST_SCORE, tiles=tiles)
        return found.to_dicts()

    ways: dict[str, Predict] = {
        "whole": partial(ours, tiles=None),
        "tiles": partial(ours, tiles=side_px),
    }
    if sahi:
        from candidates.sliced_by_sahi import sliced_prediction

        ways |= {
            f"sahi, {merging}": sliced_prediction(
                engine, side_px, OVERLAP, LEAST_SCORE, merging, MOST_AT_ONCE
            )
            for merging in SAHI_MERGING
        }
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, help="folder whose images and run are kept, and used again"
    )
    parser.add_argument("--model", help="a trained model, instead of training one")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--sahi", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    scenes = Scenes()
    with tempfile.TemporaryDirectory() as temporary:
        work: Path = given.work or Path(temporary)
        data = work / "scenes"
        if not (data / "annotations/val.json").is_file():
            write_scenes(data, scenes)
        model = given.model or str(work / "run")
        if not given.model and not (work / "run/best").is_dir():
            train(data, work / "run", given.epochs)
        torch.set_num_threads(1)
        engine = as_engine(sm.load(model))
        side_px = tile_side_px("auto", engine.card.preprocessing)
        measured = measure(ways_to_predict(engine, side_px, given.sahi), data)
        objects = json.loads((data / "annotations/val.json").read_text())["annotations"]
    facts = {
        "model": given.model or f"setmatch_n, trained on tiles for {given.epochs} epochs",
        "images": f"{scenes.val} of {scenes.height}x{scenes.width} px with {len(objects)} objects",
        "tile_px": side_px,
        "ways": measured,
        **verdicts(measured),
    }
    publish("Small objects in large images: whole, in tiles, by SAHI", facts, given.out)


if __name__ == "__main__":
    main()
