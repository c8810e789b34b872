"""Data sets and detections without files: given, or random."""

from pathlib import Path
from typing import Any

import numpy as np

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.coco import Results
from setmatch.structures.metadata import Categories


def index_of(
    image_ids: Any,
    category_ids: Any,
    image: Any,
    class_indices: Any,
    xywh_px: Any,
    *,
    area_px: Any = None,
    crowd: Any = None,
    annotation_ids: Any = None,
) -> DetectionDataset:
    """Return a data set without files; `image` holds the image of each annotation, ascending."""
    image, boxes = np.array(image, dtype=np.int64), np.array(xywh_px, dtype=float).reshape(-1, 4)
    number, count = len(image_ids), len(boxes)
    return DetectionDataset(
        source=Path("made.json"),
        images=Path(),
        categories=Categories(tuple(category_ids), tuple(f"class {i}" for i in category_ids)),
        image_ids=np.array(image_ids, dtype=np.int64),
        sizes_px=np.full((number, 2), 500, dtype=np.int32),
        names=b"",
        name_offsets=np.zeros(number + 1, dtype=np.int64),
        offsets=np.searchsorted(image, np.arange(number + 1)),
        xywh_px=boxes,
        area_px=boxes[:, 2] * boxes[:, 3] if area_px is None else np.array(area_px, dtype=float),
        class_indices=np.array(class_indices, dtype=np.int32),
        crowd=np.zeros(count, bool) if crowd is None else np.array(crowd, dtype=bool),
        annotation_ids=np.arange(1, count + 1) if annotation_ids is None else annotation_ids,
    )


def results_of(image_ids: Any, class_indices: Any, xywh_px: Any, scores: Any) -> Results:
    return Results(
        np.array(image_ids, dtype=np.int64),
        np.array(class_indices, dtype=np.int64),
        np.array(xywh_px, dtype=float).reshape(-1, 4),
        np.array(scores, dtype=float),
    )


def random_set(seed: int) -> tuple[DetectionDataset, Results]:
    """Return few images with crowds, ties, duplicates, gaps in the ids, and empty classes."""
    random = np.random.default_rng(seed)
    images, classes = int(random.integers(1, 7)), int(random.integers(1, 5))
    image_ids = random.choice(50, images, replace=False)
    category_ids = np.sort(random.choice(90, classes, replace=False)).tolist()
    truths = int(random.choice([0, 1, 5, 40]))
    image = np.sort(random.integers(0, images, truths))
    class_indices = random.integers(0, random.integers(1, classes + 1), truths)
    side = random.choice([0, 8, 32, 60, 96, 200], (truths, 2)) + random.integers(0, 3, (truths, 2))
    boxes = np.column_stack([random.integers(0, 300, (truths, 2)), side]).astype(float)
    area = side.prod(axis=1) * random.choice([0.6, 1.0], truths)
    crowd = random.random(truths) < 0.15
    index = index_of(
        image_ids, category_ids, image, class_indices, boxes, area_px=area, crowd=crowd
    )

    near = random.integers(0, truths, int(random.choice([0, 3, 60, 400]))) if truths else []
    wild = int(random.choice([0, 10, 150]))
    moved = boxes[near] + random.normal(0, random.choice([0.0, 2.0, 20.0]), (len(near), 4))
    lost = np.column_stack([random.integers(0, 300, (wild, 2)), random.integers(0, 99, (wild, 2))])
    found = np.concatenate([moved.clip(0), lost.astype(float)])
    at = np.concatenate([image[near], random.integers(0, images, wild)]).astype(np.int64)
    of = np.concatenate([class_indices[near], random.integers(0, classes, wild)])
    scores = random.random(len(found)).round(int(random.choice([1, 6])))
    return index, results_of(image_ids[at], of, found, scores)
