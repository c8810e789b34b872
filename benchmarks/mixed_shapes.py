"""What training on mixed shapes gives: AP on photographs cropped to many aspect ratios.

Every image of a COCO data set is cropped at random, so that the batches of training are padded
while those of evaluation are not. Training is as long as its steps, not its minutes, so other
programs on the machine do not change the result. Compare two commits by running this at both:

    python benchmarks/mixed_shapes.py DATA OUT --json FILE

The same command resumes an interrupted benchmark. DATA has annotations/train.json and
annotations/val.json, and images/.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import setmatch as sm
from timing import publish

LEAST, MOST = 0.35, 1.0  # sides of a crop, as fractions of the image's short side
KEPT = 0.5  # fraction of a box that a crop must show
SETTINGS = (
    "data.short_side_px=128",
    "data.long_side_px=256",
    "data.workers=0",
    "train.evaluate_every=1000",
    "train.micro_batch=8",
    "train.batch_size=8",
    "train.precision=float32",
)


def write_crops(data: Path, out: Path) -> None:
    """Write a copy of a COCO data set in which every image is cropped at random."""
    rng = np.random.default_rng(0)
    (out / "images").mkdir(parents=True)
    (out / "annotations").mkdir()
    for split in ("train", "val"):
        coco = json.loads((data / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
        cropped = [_cropped(coco, image, data, out, rng) for image in coco["images"]]
        images, boxes = zip(*cropped, strict=True)
        coco |= {"images": images, "annotations": [box for each in boxes for box in each]}
        (out / "annotations" / f"{split}.json").write_text(json.dumps(coco), encoding="utf-8")


def _cropped(
    coco: dict[str, Any], image: dict[str, Any], data: Path, out: Path, rng: np.random.Generator
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    name = Path(image["file_name"]).name
    with Image.open(data / "images" / name) as opened:
        pixels = opened.convert("RGB")
    short = min(pixels.size)
    width, height = (round(short * side) for side in rng.uniform(LEAST, MOST, 2))
    left, top = (
        int(rng.integers(0, full - side + 1))
        for full, side in zip(pixels.size, (width, height), strict=True)
    )
    pixels.crop((left, top, left + width, top + height)).save(out / "images" / name, quality=95)
    boxes = []
    for box in coco["annotations"]:
        x, y, w, h = box["bbox"]
        x0, y0 = max(x - left, 0), max(y - top, 0)
        x1, y1 = min(x + w - left, width), min(y + h - top, height)
        if box["image_id"] == image["id"] and (x1 - x0 > 1 < y1 - y0):
            visible = [x0, y0, x1 - x0, y1 - y0]
            if visible[2] * visible[3] >= KEPT * w * h:
                boxes.append(box | {"bbox": visible, "area": visible[2] * visible[3]})
    return image | {"file_name": name, "width": width, "height": height}, boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="setmatch_n")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    crops = options.out / "crops"
    if not crops.exists():
        write_crops(options.data, crops)
    scores: dict[str, list[float]] = {"AP": [], "AP50": [], "AP75": []}
    for seed in options.seeds:
        run = sm.train(
            crops,
            options.model,
            out=options.out / f"seed{seed}",
            weights=options.weights,
            epochs=options.epochs,
            overrides=[*SETTINGS, f"train.seed={seed}"],
            resume=True,
        )
        report = sm.evaluate(run.model, crops, split="val", workers=0)
        for name, values in scores.items():
            values.append(round(100 * getattr(report, name), 2))
        print(seed, {name: values[-1] for name, values in scores.items()}, flush=True)
    means: dict[str, object] = {name: round(float(np.mean(v)), 2) for name, v in scores.items()}
    title = (
        f"{options.model}, {options.epochs} epochs of crops of mixed shapes, {options.data.name}"
    )
    publish(title, {"mean": means, "per_seed": scores}, options.json)


if __name__ == "__main__":
    main()
