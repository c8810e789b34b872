"""Panoptic quality of pairs of segmentations, compared with panopticapi's computation.

The reference is that computation, written plainly: the ids of both images are joined and counted by
sorting, then pairs, false negatives and false positives are iterated. Both start from the content
of a PNG: the ids of 480×640 pixels.
"""

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from setmatch.data.annotations.mask_decoding import renumber_segments
from setmatch.evaluation.metrics.panoptic import panoptic_quality, pq_stat, sum_stats
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments
from timing import publish, time_interleaved

CLASSES, IMAGES, SEGMENTS = 133, 20, 12
CATEGORIES = Categories(
    tuple(range(CLASSES)),
    tuple(f"class {i}" for i in range(CLASSES)),
    frozenset(range(80, CLASSES)),
)


class Scene(NamedTuple):
    """Ground truth and prediction of an image."""

    annotated: np.ndarray
    ids: np.ndarray
    class_indices: np.ndarray
    crowd: np.ndarray
    areas: list[int]
    predicted: np.ndarray
    predicted_classes: np.ndarray


def generate(seed: int = 0) -> list[Scene]:
    """Return ground truth of blocks, and predictions that are partly right."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(IMAGES):
        ids = np.unique(random.integers(1, 2**24, SEGMENTS)).astype(np.int32)
        coarse = random.integers(0, len(ids) + 1, (12, 16))
        large = np.kron(coarse, np.ones((40, 40), dtype=np.int64))
        annotated = np.append(ids, 0)[large].astype(np.int32)
        shifted = np.roll(large, tuple(random.integers(0, 12, 2)), axis=(0, 1))
        class_indices = random.integers(0, CLASSES, len(ids))
        predicted_classes = np.where(
            random.random(len(ids)) < 0.8, class_indices, random.integers(0, CLASSES, len(ids))
        )
        predicted = np.append(np.arange(1, len(ids) + 1), 0)[shifted].astype(np.int32)
        if len(np.unique(predicted[predicted > 0])) < len(ids):
            continue  # predicted segments are never empty
        areas = [int((annotated == id_).sum()) for id_ in ids]  # given in the JSON file
        crowd = random.random(len(ids)) < 0.05
        images.append(
            Scene(annotated, ids, class_indices, crowd, areas, predicted, predicted_classes)
        )
    return images


def panopticapi(images: list[Scene]) -> float:
    overlap: defaultdict[int, float] = defaultdict(float)
    tp: Counter[int] = Counter()
    fn: Counter[int] = Counter()
    fp: Counter[int] = Counter()
    for annotated, ids, class_indices, crowd, areas, predicted, predicted_classes in images:
        truth = {
            int(i): (int(s), bool(c), area)
            for i, s, c, area in zip(ids, class_indices, crowd, areas, strict=True)
        }
        labels, counts = np.unique(predicted, return_counts=True)
        prediction = {
            int(i): (int(predicted_classes[i - 1]), int(n))
            for i, n in zip(labels, counts, strict=True)
            if i
        }
        joined = annotated.astype(np.uint64) * 2**24 + predicted.astype(np.uint64)
        labels, counts = np.unique(joined, return_counts=True)
        shared = {
            (int(label) // 2**24, int(label) % 2**24): int(n)
            for label, n in zip(labels, counts, strict=True)
        }
        right, given = set(), set()
        for (i, j), both in shared.items():
            if (
                i not in truth
                or j not in prediction
                or truth[i][1]
                or truth[i][0] != prediction[j][0]
            ):
                continue
            iou = both / (prediction[j][1] + truth[i][2] - both - shared.get((0, j), 0))
            if iou > 0.5:
                overlap[truth[i][0]] += iou
                tp[truth[i][0]] += 1
                right.add(i)
                given.add(j)
        crowds = {}
        for i, (class_index, is_crowd, _) in truth.items():
            if is_crowd:
                crowds[class_index] = i
            elif i not in right:
                fn[class_index] += 1
        for j, (class_index, area) in prediction.items():
            if j in given:
                continue
            ignored = shared.get((0, j), 0) + shared.get((crowds.get(class_index, -1), j), 0)
            if ignored / area <= 0.5:
                fp[class_index] += 1
    denominator = {
        class_index: tp[class_index] + (fn[class_index] + fp[class_index]) / 2
        for class_index in range(CLASSES)
    }
    return float(
        np.mean(
            [
                overlap[class_index] / denominator[class_index]
                for class_index in denominator
                if denominator[class_index]
            ]
        )
    )


def ours(images: list[Scene]) -> float:
    class_index_of = np.arange(CLASSES)
    stats = []
    for annotated, ids, class_indices, crowd, _, predicted, predicted_classes in images:
        truth = Segments(
            torch.from_numpy(renumber_segments(annotated, ids)),
            torch.from_numpy(class_indices),
            torch.ones(len(class_indices)),
            CATEGORIES,
        )
        prediction = Segments(
            torch.from_numpy(predicted),
            torch.from_numpy(predicted_classes),
            torch.ones(len(predicted_classes)),
            CATEGORIES,
        )
        stats.append(pq_stat(truth, crowd, prediction, class_index_of))
    return panoptic_quality(sum_stats(stats, CLASSES), CATEGORIES).all.PQ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = generate()
    seconds = time_interleaved(
        {"ours": lambda: ours(images), "panopticapi": lambda: panopticapi(images)}, options.rounds
    )
    publish(
        f"panoptic quality of {len(images)} images of 480×640",
        {
            "times_as_fast_as_panopticapi": round(seconds["panopticapi"] / seconds["ours"], 2),
            "our_images_per_second": round(len(images) / seconds["ours"], 1),
            "difference": abs(ours(images) - panopticapi(images)),
        },
        options.json,
    )


if __name__ == "__main__":
    main()
