"""Panoptic quality of pairs of segmentations, against panopticapi's arithmetic image by image.

The reference below is that arithmetic written straightforwardly: the ids of both pictures joined
and counted by sorting, then a walk over the pairs, the missed and the invented. Both begin with
what a PNG holds: the ids of 480×640 pixels.
"""

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from setmatch.data.mask_decoding import renumber_segments
from setmatch.evaluation.metrics.panoptic_quality import panoptic_quality, pq_stat, sum_stats
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
    """A truth and an answer about it."""

    drawn: np.ndarray
    ids: np.ndarray
    class_indices: np.ndarray
    crowd: np.ndarray
    areas: list[int]
    found: np.ndarray
    guess: np.ndarray


def made(seed: int = 0) -> list[Scene]:
    """Truths of blocks with ids as colors, and answers that are partly right."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(IMAGES):
        ids = np.unique(random.integers(1, 2**24, SEGMENTS)).astype(np.int32)
        coarse = random.integers(0, len(ids) + 1, (12, 16))
        large = np.kron(coarse, np.ones((40, 40), dtype=np.int64))
        drawn = np.append(ids, 0)[large].astype(np.int32)
        shifted = np.roll(large, tuple(random.integers(0, 12, 2)), axis=(0, 1))
        class_indices = random.integers(0, CLASSES, len(ids))
        guess = np.where(
            random.random(len(ids)) < 0.8, class_indices, random.integers(0, CLASSES, len(ids))
        )
        found = np.append(np.arange(1, len(ids) + 1), 0)[shifted].astype(np.int32)
        if len(np.unique(found[found > 0])) < len(ids):
            continue  # the merge answers with no segment that has no pixel
        areas = [int((drawn == id_).sum()) for id_ in ids]  # which the JSON file has
        crowd = random.random(len(ids)) < 0.05
        images.append(Scene(drawn, ids, class_indices, crowd, areas, found, guess))
    return images


def panopticapi(images: list[Scene]) -> float:
    overlap: defaultdict[int, float] = defaultdict(float)
    matched: Counter[int] = Counter()
    missed: Counter[int] = Counter()
    invented: Counter[int] = Counter()
    for drawn, ids, class_indices, crowd, areas, found, guess in images:
        truth = {
            int(i): (int(s), bool(c), area)
            for i, s, c, area in zip(ids, class_indices, crowd, areas, strict=True)
        }
        labels, counts = np.unique(found, return_counts=True)
        answer = {
            int(i): (int(guess[i - 1]), int(n)) for i, n in zip(labels, counts, strict=True) if i
        }
        joined = drawn.astype(np.uint64) * 2**24 + found.astype(np.uint64)
        labels, counts = np.unique(joined, return_counts=True)
        shared = {
            (int(label) // 2**24, int(label) % 2**24): int(n)
            for label, n in zip(labels, counts, strict=True)
        }
        right, given = set(), set()
        for (i, j), both in shared.items():
            if i not in truth or j not in answer or truth[i][1] or truth[i][0] != answer[j][0]:
                continue
            iou = both / (answer[j][1] + truth[i][2] - both - shared.get((0, j), 0))
            if iou > 0.5:
                overlap[truth[i][0]] += iou
                matched[truth[i][0]] += 1
                right.add(i)
                given.add(j)
        crowds = {}
        for i, (class_index, is_crowd, _) in truth.items():
            if is_crowd:
                crowds[class_index] = i
            elif i not in right:
                missed[class_index] += 1
        for j, (class_index, area) in answer.items():
            if j in given:
                continue
            excused = shared.get((0, j), 0) + shared.get((crowds.get(class_index, -1), j), 0)
            if excused / area <= 0.5:
                invented[class_index] += 1
    owed = {
        class_index: matched[class_index] + (missed[class_index] + invented[class_index]) / 2
        for class_index in range(CLASSES)
    }
    return float(
        np.mean(
            [overlap[class_index] / owed[class_index] for class_index in owed if owed[class_index]]
        )
    )


def ours(images: list[Scene]) -> float:
    class_index_of = np.arange(CLASSES)
    tallies = []
    for drawn, ids, class_indices, crowd, _, found, guess in images:
        truth = Segments(
            torch.from_numpy(renumber_segments(drawn, ids)),
            torch.from_numpy(class_indices),
            torch.ones(len(class_indices)),
            CATEGORIES,
        )
        answer = Segments(
            torch.from_numpy(found), torch.from_numpy(guess), torch.ones(len(guess)), CATEGORIES
        )
        tallies.append(pq_stat(truth, crowd, answer, class_index_of))
    return panoptic_quality(sum_stats(tallies, CLASSES), CATEGORIES).all.PQ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = made()
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
