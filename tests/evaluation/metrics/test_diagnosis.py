"""Diagnose errors that were made on purpose, and compare their cost with brute force."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sample_datasets import index_of, random_set, results_of
from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.coco import (
    Results,
    average_precision,
    limits_for,
    precision_of,
    run_protocol,
)
from setmatch.evaluation.metrics.diagnosis import Diagnosis, diagnose
from setmatch.evaluation.metrics.error_types import KINDS, classify_errors
from setmatch.evaluation.metrics.matched_detections import MatchedDetections, match_detections

A, B, FAR = [10, 10, 50, 50], [200, 10, 40, 40], [300, 300, 30, 30]
LOOSE_A = [35, 10, 50, 50]  # an IoU of a third
# Detections besides a correct one of A, in an image with objects A (class 0) and B (class 1).
MADE = {
    "classification": [(0, B)],
    "localization": [(1, [220, 10, 40, 40])],
    "both": [(0, [220, 10, 40, 40])],
    "duplicate": [(0, A)],
    "background": [(0, FAR)],
    "missed": [],
}


def made(wrong: list[tuple[int, list[int]]]) -> MatchedDetections:
    index = index_of([1], [3, 5], [0, 0], [0, 1], [A, B])
    detections = [(0, A), *wrong]
    class_indices, boxes = zip(*detections, strict=True)
    scores = np.linspace(0.9, 0.8, len(detections))
    return match_detections(
        index, results_of([1] * len(class_indices), class_indices, boxes, scores), 100
    )


@pytest.mark.parametrize("kind", MADE)
def test_each_error_type_is_recognized(kind: str):
    """One error of each of TIDE's types is counted once, as that type only."""
    diagnosis = diagnose(made(MADE[kind]))
    counts = {name: error.count for name, error in diagnosis.errors.items() if error.count}
    if kind in ("both", "duplicate", "background"):  # B stays missed, as nothing is near enough
        assert counts.pop("missed") == 1
    assert counts == {kind: 1}


def costs(matched: MatchedDetections) -> dict[str, float]:
    """Return what each error type costs, by brute force: fix its errors, and measure AP50 again.

    As in TIDE, a box or class is corrected on the best detection that could have found a missed
    object, and other errors are removed; missed objects are removed from the ground truth.
    """
    index, results = matched.index, matched.results
    before = ap50(index, index, results)
    rows_of = [np.arange(a, b) for a, b in zip(index.offsets, index.offsets[1:], strict=False)]
    used = set(matched.truth[matched.right].tolist())
    kinds: dict[int, str] = {}
    target: dict[int, int] = {}  # the object that a wrong detection is closest to
    for image, truth in enumerate(rows_of):
        here = np.flatnonzero(results.image_ids == index.image_ids[image])
        class_indices = index.class_indices[truth].astype(np.int64)
        types = classify_errors(
            results.xywh_px[here], results.class_indices[here], index.xywh_px[truth], class_indices
        )
        for row, kind in zip(here.tolist(), types, strict=True):
            if not matched.right[row]:
                kinds[row] = kind
                near = overlaps(results.xywh_px[row], index.xywh_px[truth])
                same = class_indices == results.class_indices[row]
                near = np.where(same if kind == "localization" else ~same, near, -1)
                if len(truth):
                    target[row] = int(truth[near.argmax()])
    lost = {}
    for kind in KINDS:
        fixed = replace(
            results, xywh_px=results.xywh_px.copy(), class_indices=results.class_indices.copy()
        )
        keep, taken = np.ones(len(results), dtype=bool), set(used)
        for row in sorted(kinds, key=lambda row: -results.scores[row]):
            if kinds[row] != kind:
                continue
            if kind in ("classification", "localization") and target[row] not in taken:
                fixed.xywh_px[row] = index.xywh_px[target[row]]
                fixed.class_indices[row] = index.class_indices[target[row]]
                taken.add(target[row])
            else:
                keep[row] = False
        near = {target[row] for row, name in kinds.items() if name in list(KINDS)[:2]}
        left = index
        if kind == "missed":
            missed = sorted(set(range(len(index.class_indices))) - used - near)
            left = without(index, missed)
        lost[kind] = ap50(index, left, fixed.select(keep)) - before
    return lost


def ap50(before: DetectionDataset, index: DetectionDataset, results: Results) -> float:
    """Return the mean over the classes that had objects before; a class without any left has 0."""
    per_class = average_precision(index, results, 1000).per_class
    counted = {before.categories.name(class_index) for class_index in before.class_indices.tolist()}
    return float(np.mean([max(per_class[name].AP50, 0) for name in counted]))


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    both = (high - low).clip(0).prod(axis=1)
    return both / np.maximum(box[2:].prod() + others[:, 2:].prod(axis=1) - both, 1e-9)


def without(index: DetectionDataset, rows: list[int]) -> DetectionDataset:
    """Return the data set with some annotations turned into a crowd that nothing overlaps."""
    crowd = index.crowd.copy()
    crowd[rows] = True
    boxes = index.xywh_px.copy()
    boxes[rows] = [9000, 9000, 1, 1]
    return replace(index, crowd=crowd, xywh_px=boxes)


def plain_set(seed: int) -> tuple[DetectionDataset, Results]:
    """Return a random set without crowds, empty boxes, equal scores and classes without objects.

    hotcoco counts detections of a class without objects as errors that cost nothing.
    """
    index, results = random_set(seed)
    results = results.select(np.isin(results.class_indices, index.class_indices))
    boxes = index.xywh_px.copy()
    boxes[:, 2:] = boxes[:, 2:].clip(min=4)
    found = results.xywh_px.copy()
    found[:, 2:] = found[:, 2:].clip(min=4)
    scores = np.random.default_rng(seed).permutation(len(results)) / max(len(results), 1)
    index = replace(index, crowd=np.zeros(len(index.class_indices), bool), xywh_px=boxes)
    return index, Results(results.image_ids, results.class_indices, found, scores)


def test_the_cost_of_an_error_is_what_fixing_it_gains():
    """TIDE's cost of each type equals brute force, on random sets that contain all types.

    If a recall equals one of the 101 but for the last digit, a point of the curve may differ.
    """
    seen: Counter[str] = Counter()
    off = 0
    for seed in range(30):
        index, results = plain_set(seed)
        if not len(index.class_indices):
            continue
        matched = match_detections(index, results, 1000)
        errors, expected = diagnose(matched).errors, costs(matched)
        for kind in KINDS:
            difference = abs(errors[kind].lost_AP50 - expected[kind])
            assert difference < 1 / 101, (seed, kind)
            off += difference > 1e-9
            seen[kind] += errors[kind].lost_AP50 > 1e-6
    assert off <= 4  # of some two hundred
    assert all(seen[kind] for kind in KINDS), seen


def test_error_types_of_single_detections_add_up_to_the_counts():
    """Without crowds, because hotcoco counts localization errors on them."""
    for seed in range(25):
        index, results = random_set(seed)
        index = replace(index, crowd=np.zeros(len(index.class_indices), bool))
        matched = match_detections(index, results, 100)
        counts: Counter[str] = Counter()
        for image in range(len(index)):
            here = matched.counted & (results.image_ids == index.image_ids[image])
            here = np.flatnonzero(here & ~matched.right)
            rows = np.arange(index.offsets[image], index.offsets[image + 1])
            class_indices = index.class_indices[rows].astype(np.int64)
            counts.update(
                classify_errors(
                    results.xywh_px[here],
                    results.class_indices[here],
                    index.xywh_px[rows],
                    class_indices,
                )
            )
        reported = {kind: error.count for kind, error in diagnose(matched).errors.items()}
        assert {kind: counts[kind] for kind in KINDS if kind != "missed"} == {
            kind: count for kind, count in reported.items() if kind != "missed"
        }


def test_calibration_of_known_scores():
    """30 of 40 detections that score 0.7 are correct, and none of 10 that score 0.25."""
    boxes = [[10 * k, 0, 8, 8] for k in range(40)]
    found = [*boxes[:30], *([x, 400, 8, 8] for x in range(0, 100, 10))]
    index = index_of([1], [1], [0] * 40, [0] * 40, boxes)
    results = results_of([1] * 50, [0] * 50, [*found, *found[30:]], [0.7] * 40 + [0.25] * 10)
    calibration = diagnose(match_detections(index, results, 100)).calibration
    filled = {round(each.low, 1): each for each in calibration.bins if each.count}
    assert {low: each.count for low, each in filled.items()} == {0.2: 10, 0.7: 40}
    assert filled[0.7].right == pytest.approx(0.75)
    assert filled[0.7].score == pytest.approx(0.7)
    assert filled[0.2].right == 0
    assert calibration.error == pytest.approx((40 * 0.05 + 10 * 0.25) / 50)


def test_confusion_matrix():
    """Rows are the true classes: one object is found, one confused, one missed, one false alarm."""
    boxes = [[0, 0, 20, 20], [100, 0, 20, 20], [200, 0, 20, 20], [300, 0, 20, 20]]
    index = index_of([1], [4, 9], [0] * 4, [0, 0, 0, 1], boxes)
    # Errors score highest, so they are above any threshold that shows the correct detections.
    found = [(0, boxes[0], 0.5), (1, boxes[1], 0.9), (0, [400, 0, 20, 20], 0.8), (1, boxes[3], 0.4)]
    class_indices, places, scores = zip(*found, strict=True)
    diagnosis = diagnose(
        match_detections(index, results_of([1] * 4, class_indices, places, scores), 100)
    )
    assert diagnosis.confusion == ((1, 1, 1), (0, 1, 0), (1, 0, 0))
    assert (diagnosis.objects, diagnosis.true_positives, diagnosis.false_positives) == (4, 2, 2)


def test_detections_on_a_crowd_are_no_errors():
    """A crowd is neither an object nor background."""
    index = index_of([1], [1], [0, 0], [0, 0], [A, [200, 200, 200, 200]], crowd=[False, True])
    results = results_of([1, 1], [0, 0], [A, [220, 220, 30, 30]], [0.5, 0.9])
    diagnosis = diagnose(match_detections(index, results, 100))
    assert diagnosis.confusion == ((1, 0), (0, 0))
    assert (diagnosis.objects, diagnosis.false_positives) == (1, 0)
    assert diagnosis.worst == ()
    assert sum(error.count for error in diagnosis.errors.values()) == 0


def test_sizes_and_curves_agree_with_the_report():
    """The precision curves of all IoUs average to AP."""
    for seed in range(25):
        index, results = random_set(seed)
        if index.crowd.all():
            continue
        diagnosis, report = (
            diagnose(match_detections(index, results, 100)),
            average_precision(index, results),
        )
        sizes = [diagnosis.sizes[size].AP for size in ("small", "medium", "large")]
        assert sizes == [report.APs, report.APm, report.APl]
        assert np.mean(list(diagnosis.precision.values())) == pytest.approx(report.AP, abs=1e-4)
        for each in diagnosis.classes:
            assert each.AP == report.per_class[each.name].AP
            assert each.boxes == report.per_class[each.name].boxes
            assert bool(each.precision["0.5"]) == (each.boxes > 0)


def test_errors_of_all_images_add_up_to_those_of_the_data_set():
    for seed in range(25):
        index, results = random_set(seed)
        matched = match_detections(index, results, 100)
        diagnosis: Diagnosis = diagnose(matched)
        assert diagnosis.true_positives <= diagnosis.objects == (~index.crowd).sum()
        assert len(diagnosis.worst) <= 12
        assert sum(each.false_positives for each in diagnosis.worst) == diagnosis.false_positives
        missed = sum(each.false_negatives for each in diagnosis.worst)
        assert missed == diagnosis.objects - diagnosis.true_positives


def test_the_worst_image_has_many_errors_relative_to_its_objects():
    """Five of ten objects missed is worse than one of ten, and than the only one."""
    boxes = [[20 * k, 0, 15, 15] for k in range(10)]
    image = [0] * 10 + [1] * 10 + [2]
    index = index_of([7, 8, 9], [1], image, [0] * 21, [*boxes, *boxes, boxes[0]])
    found = [(7, box) for box in boxes[:9]] + [(8, box) for box in boxes[:5]]
    ids, places = zip(*found, strict=True)
    matched = match_detections(
        index, results_of(ids, [0] * 14, places, np.linspace(0.9, 0.8, 14)), 100
    )
    worst = diagnose(matched).worst
    assert [(each.image, each.true_positives, each.false_negatives) for each in worst] == [
        (1, 5, 5),
        (2, 0, 1),
        (0, 9, 1),
    ]


@pytest.mark.parametrize("limit", [3, 10, 100, 150])
def test_the_protocol_of_average_precision_gives_the_same_matches(limit: int):
    """It ran with more limits. An evaluation runs one, but for limits below COCO's own."""
    index, results = random_set(4)
    shared = run_protocol(index, results, limits_for(limit))
    alone = match_detections(index, results, limit)
    matched = match_detections(index, results, limit, shared)
    assert (matched.protocol is shared) == (limit >= 100)
    assert matched.truth.tolist() == alone.truth.tolist()
    assert matched.shown.tolist() == alone.shown.tolist()
    assert matched.thresholds == alone.thresholds
    assert diagnose(matched) == diagnose(alone)
    assert precision_of(shared, index, limit) == average_precision(index, results, limit)
