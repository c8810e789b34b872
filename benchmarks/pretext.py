"""Warm up on the training pictures themselves, without their boxes, before learning from them.

    python benchmarks/contestants/cpu_clock.py benchmarks/pretext.py OUT --data FOLDER --minutes 10

Pieces of training pictures are pasted into each, one perhaps over another, and where they lie is
learned for a share of the minutes; the rest goes on from there with the true boxes. Making the
pictures is not counted. A share of 0 is the recipe from random weights. The AP at the best point is
printed, by minutes of both.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import setmatch as sm
from setmatch.config import load_recipe
from setmatch.data.audit.image_size import resolve_image_size
from setmatch.data.dataset import DetectionDataset
from setmatch.data.image_io import read_image
from setmatch.data.open import open_dataset
from setmatch.data.transforms import resized_px
from setmatch.errors import DataError
from setmatch.evaluation.evaluate import evaluate

PIECES, SIDES = 6, (0.12, 0.6)  # at most in a picture, and fractions of its short side
COPIES = 8  # of each training picture, each with other pieces


def write_pieces(training: DetectionDataset, folder: Path, short_px: int, seed: int) -> None:
    """Write a COCO folder of one class, "piece", made of the training pictures alone."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    read = (_small(training, row, short_px) for row in range(len(training)))
    sources = [picture for picture in read if picture is not None]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(COPIES * len(sources)):
        picture = sources[number % len(sources)].copy()
        name = f"{number:05d}.jpg"
        for _ in range(rng.integers(1, PIECES + 1)):
            x, y, width, height = _paste(rng, picture, sources[rng.integers(len(sources))])
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append(ids | box)
        picture.save(folder / "images" / name, quality=95)
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": name, **size})
    categories = [{"id": 1, "name": "piece"}]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / "train.json").write_text(json.dumps(tree))


def _small(training: DetectionDataset, row: int, short_px: int) -> Image.Image | None:
    try:
        pixels = read_image(training.path(row))
    except DataError:  # training leaves such pictures out, too
        return None
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    height, width = resized_px((picture.height, picture.width), short_px, 2 * short_px)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _paste(
    rng: np.random.Generator, picture: Image.Image, source: Image.Image
) -> tuple[int, int, int, int]:
    """Paste an ellipse of another picture, its edge blurred; return its x, y, width, height."""
    side = min(picture.size) * math.exp(rng.uniform(*np.log(SIDES)))
    stretch = math.exp(rng.uniform(-0.5, 0.5))
    wanted = (side * stretch, side / stretch)
    limits = [min(pair) for pair in zip(picture.size, source.size, strict=True)]
    width, height = (
        min(max(round(length), 6), limit) for length, limit in zip(wanted, limits, strict=True)
    )
    left, top = (
        int(rng.integers(whole - part + 1))
        for whole, part in zip(source.size, (width, height), strict=True)
    )
    x, y = (
        int(rng.integers(whole - part + 1))
        for whole, part in zip(picture.size, (width, height), strict=True)
    )
    piece = source.crop((left, top, left + width, top + height))
    shape = Image.new("L", (width, height))
    ImageDraw.Draw(shape).ellipse((0, 0, width - 1, height - 1), fill=255)
    picture.paste(piece, (x, y), shape.filter(ImageFilter.GaussianBlur(1)))
    return x, y, width, height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--share", type=float, default=0.2, help="of the minutes, for the pieces")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    training = open_dataset(options.data, "train")
    short_px = resolve_image_size(load_recipe("setmatch_n").data, training).short_side_px
    assert isinstance(short_px, int), "settled"
    alike = ("data.workers=0", f"train.seed={options.seed}", f"data.short_side_px={short_px}")
    warmed = options.share * options.minutes
    weights: Path | str = "none"
    if warmed:
        weights = options.out / "warmed"
        write_pieces(training, options.out / "pieces", short_px, options.seed)
        sm.train(
            options.out / "pieces",
            "setmatch_n",
            out=weights,
            weights="none",
            overrides=alike,
            minutes=warmed,
        )
    run = sm.train(
        options.data,
        "setmatch_n",
        out=options.out / "run",
        weights=weights,
        overrides=alike,
        minutes=options.minutes - warmed,
    )
    report = evaluate(run.model, options.data, split="val")
    print(json.dumps({"minutes": [warmed, options.minutes - warmed], "AP": report.AP}))


if __name__ == "__main__":
    main()
