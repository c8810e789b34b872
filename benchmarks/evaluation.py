"""The twelve COCO metrics of 5,000 images and 500,000 detections, compared with pycocotools.

Both start from the same arrays, in the same run, on one thread. The data is generated from a seed:
80 classes, about 36,000 boxes, 100 detections per image, most of them near a box, some crowds.
"""

import argparse
import contextlib
import io
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.coco import Results, average_precision
from setmatch.structures.metadata import Categories
from timing import publish

CLASSES = 80
PER_IMAGE = 100
BOXES_PER_IMAGE = 7.2


def generate(images: int, seed: int = 0) -> tuple[DetectionDataset, Results]:
    """Return boxes of all sizes, and detections of which two thirds are near a box."""
    random = np.random.default_rng(seed)
    counts = random.poisson(BOXES_PER_IMAGE, images)
    offsets = np.concatenate([[0], counts.cumsum()])
    truths = int(offsets[-1])
    boxes = np.column_stack(
        [random.uniform(0, 400, (truths, 2)), np.exp(random.uniform(1.6, 5.5, (truths, 2)))]
    )
    index = DetectionDataset(
        source=Path("made"),
        images=Path(),
        categories=Categories(tuple(range(1, 81)), tuple(f"class {i}" for i in range(CLASSES))),
        image_ids=random.permutation(10 * images)[:images],
        sizes_px=np.full((images, 2), 640, dtype=np.int32),
        names=b"",
        name_offsets=np.zeros(images + 1, dtype=np.int64),
        offsets=offsets,
        xywh_px=boxes,
        area_px=boxes[:, 2] * boxes[:, 3] * random.uniform(0.5, 1, truths),
        class_indices=random.integers(0, CLASSES, truths).astype(np.int32),
        crowd=random.random(truths) < 0.01,
        annotation_ids=np.arange(1, truths + 1),
    )
    image = np.repeat(np.arange(images), PER_IMAGE)
    count = len(image)
    near = offsets[image] + (random.random(count) * counts[image]).astype(np.int64)
    aimed = (counts[image] > 0) & (random.random(count) < 0.67)
    near = np.where(aimed, near, random.integers(0, truths, count))
    error = random.normal(0, 0.15, (count, 4)) * boxes[near][:, [2, 3, 2, 3]]
    found = boxes[near] + error
    found[:, 2:] = np.abs(found[:, 2:]) + 1
    right = aimed & (random.random(count) < 0.8)
    class_indices = np.where(right, index.class_indices[near], random.integers(0, CLASSES, count))
    overlap = np.exp(-4 * np.abs(error).sum(1) / boxes[near][:, 2:].sum(1))
    scores = (0.7 * right * overlap + 0.3 * random.random(count)).astype(np.float32)
    return index, Results(index.image_ids[image], class_indices, found, scores.astype(np.float64))


def pycocotools(index: DetectionDataset, results: Results) -> list[float]:
    """Return the twelve metrics by the fastest way that pycocotools offers for arrays."""
    image_ids = np.repeat(index.image_ids, np.diff(index.offsets)).tolist()
    ids = np.array(index.categories.ids)
    columns: tuple[Any, ...] = (
        index.annotation_ids.tolist(),
        image_ids,
        ids[index.class_indices].tolist(),
        index.xywh_px.tolist(),
        index.area_px.tolist(),
        index.crowd.astype(int).tolist(),
    )
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image_id} for image_id in index.image_ids.tolist()],
            "categories": [{"id": i, "name": str(i)} for i in index.categories.ids],
            "annotations": [
                dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)
            ],
        }
        truth.createIndex()
        found = truth.loadRes(
            np.column_stack(
                [results.image_ids, results.xywh_px, results.scores, ids[results.class_indices]]
            )
        )
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(map(float, evaluation.stats))


def measure(images: int, repeats: int) -> dict[str, Any]:
    """Time ours (median of `repeats`) and pycocotools (once), and compare their results."""
    index, results = generate(images)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        ours = list(average_precision(index, results).numbers().values())
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    theirs = pycocotools(index, results)
    their_s = time.perf_counter() - start
    our_s = float(np.median(times))
    return {
        "images": images,
        "boxes": len(index.class_indices),
        "detections": len(results),
        "ours_s": round(our_s, 3),
        "pycocotools_s": round(their_s, 3),
        "ratio": round(their_s / our_s, 1),
        "largest_difference": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "numbers": ours,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument(
        "--repeats", type=int, default=5, help="runs of ours; pycocotools runs once"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"  # pycocotools is single-threaded
    torch.set_num_threads(1)
    result = measure(options.images, options.repeats)
    versions = {name: version(name) for name in ("hotcoco", "pycocotools", "numpy")}
    publish("COCO's twelve numbers from flat arrays", {**result, **versions}, options.json)


if __name__ == "__main__":
    main()
