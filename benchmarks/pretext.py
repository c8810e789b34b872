"""Pretrain on the training images without their boxes.

    python benchmarks/candidates/cpu_clock.py benchmarks/pretext.py OUT --data FOLDER --minutes 10

Pieces of training images are pasted into others, possibly overlapping. The model is trained to
detect them for a fraction of the minutes, then on the annotated boxes for the rest. Generating the
images is not counted. A fraction of 0 trains from random weights. The AP of the best evaluation is
printed, with the minutes of both stages.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import setmatch as sm
from setmatch.data.audit.recommend.image_size import resolve_image_size
from setmatch.data.batches.transforms import resized_px
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.image_io import read_image
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from setmatch.evaluation.evaluate import evaluate
from setmatch.recipe_text import load_recipe

PIECES, SIDES = 6, (0.12, 0.6)  # per image at most, and their range as fractions of the short side
COPIES = 8  # of each training image, with different pieces


def write_pieces(training: DetectionDataset, folder: Path, short_px: int, seed: int) -> None:
    """Write a COCO data set with one class, "piece", from the training images."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    read = (_small(training, row, short_px) for row in range(len(training)))
    sources = [image for image in read if image is not None]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(COPIES * len(sources)):
        image = sources[number % len(sources)].copy()
        name = f"{number:05d}.jpg"
        for _ in range(rng.integers(1, PIECES + 1)):
            x, y, width, height = _paste(rng, image, sources[rng.integers(len(sources))])
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append(ids | box)
        image.save(folder / "images" / name, quality=95)
        size = {"width": image.width, "height": image.height}
        images.append({"id": number, "file_name": name, **size})
    categories = [{"id": 1, "name": "piece"}]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / "train.json").write_text(json.dumps(tree))


def _small(training: DetectionDataset, row: int, short_px: int) -> Image.Image | None:
    try:
        pixels = read_image(training.path(row))
    except DataError:  # training skips such images, too
        return None
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    height, width = resized_px((image.height, image.width), short_px, 2 * short_px)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _paste(
    rng: np.random.Generator, image: Image.Image, source: Image.Image
) -> tuple[int, int, int, int]:
    """Paste a blurred ellipse of another image; return its x, y, width, height."""
    side = min(image.size) * math.exp(rng.uniform(*np.log(SIDES)))
    stretch = math.exp(rng.uniform(-0.5, 0.5))
    wanted = (side * stretch, side / stretch)
    limits = [min(pair) for pair in zip(image.size, source.size, strict=True)]
    width, height = (
        min(max(round(length), 6), limit) for length, limit in zip(wanted, limits, strict=True)
    )
    left, top = (
        int(rng.integers(whole - part + 1))
        for whole, part in zip(source.size, (width, height), strict=True)
    )
    x, y = (
        int(rng.integers(whole - part + 1))
        for whole, part in zip(image.size, (width, height), strict=True)
    )
    piece = source.crop((left, top, left + width, top + height))
    shape = Image.new("L", (width, height))
    ImageDraw.Draw(shape).ellipse((0, 0, width - 1, height - 1), fill=255)
    image.paste(piece, (x, y), shape.filter(ImageFilter.GaussianBlur(1)))
    return x, y, width, height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--share", type=float, default=0.2, help="fraction of the minutes for the pieces"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    training = open_dataset(options.data, "train")
    short_px = resolve_image_size(load_recipe("setmatch_n").data, training).short_side_px
    assert isinstance(short_px, int), "the size is a number"
    common = ("data.workers=0", f"train.seed={options.seed}", f"data.short_side_px={short_px}")
    pretrain_minutes = options.share * options.minutes
    weights: Path | str = "none"
    if pretrain_minutes:
        weights = options.out / "warmed"
        write_pieces(training, options.out / "pieces", short_px, options.seed)
        sm.train(
            options.out / "pieces",
            "setmatch_n",
            out=weights,
            weights="none",
            overrides=common,
            minutes=pretrain_minutes,
        )
    run = sm.train(
        options.data,
        "setmatch_n",
        out=options.out / "run",
        weights=weights,
        overrides=common,
        minutes=options.minutes - pretrain_minutes,
    )
    report = evaluate(run.model, options.data, split="val")
    print(
        json.dumps(
            {"minutes": [pretrain_minutes, options.minutes - pretrain_minutes], "AP": report.AP}
        )
    )


if __name__ == "__main__":
    main()
