"""Panoptic quality equals its definition and panopticapi's treatment of void and crowds."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.evaluation.metrics.panoptic import panoptic_quality, pq_stat, sum_stats
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments

CLASSES = 4
CATEGORIES = Categories((1, 2, 7, 9), ("cat", "dog", "sky", "sea"), frozenset({2, 3}))
SAME = np.arange(CLASSES)


def segments(ids, classes) -> Segments:
    ids = torch.as_tensor(np.asarray(ids), dtype=torch.int32)
    class_indices = torch.tensor(classes, dtype=torch.int64)
    return Segments(ids, class_indices, torch.ones(len(class_indices)), CATEGORIES)


def reference(images):
    """Return PQ, SQ and RQ by their definition, per class and per group."""
    counts = {
        class_index: {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0} for class_index in range(CLASSES)
    }
    for truth, crowd, found in images:
        truth_ids, predicted_ids = truth.ids.numpy(), found.ids.numpy()
        truth_classes, predicted_classes = truth.classes.tolist(), found.classes.tolist()
        tp, matched = set(), set()
        for g, class_index in enumerate(truth_classes):
            for p, other in enumerate(predicted_classes):
                both = int(((truth_ids == g + 1) & (predicted_ids == p + 1)).sum())
                if not both or crowd[g] or class_index != other:
                    continue
                void = int(((truth_ids == 0) & (predicted_ids == p + 1)).sum())
                union = (
                    int((truth_ids == g + 1).sum())
                    + int((predicted_ids == p + 1).sum())
                    - both
                    - void
                )
                if both / union > 0.5:
                    counts[class_index]["iou"] += both / union
                    counts[class_index]["tp"] += 1
                    tp.add(g)
                    matched.add(p)
        crowd_of = {}
        for g, class_index in enumerate(truth_classes):
            if g in tp:
                continue
            if crowd[g]:
                crowd_of[class_index] = g
            else:
                counts[class_index]["fn"] += 1
        for p, class_index in enumerate(predicted_classes):
            if p in matched:
                continue
            ignored = int(((truth_ids == 0) & (predicted_ids == p + 1)).sum())
            if class_index in crowd_of:
                ignored += int(
                    ((truth_ids == crowd_of[class_index] + 1) & (predicted_ids == p + 1)).sum()
                )
            if not ignored / int((predicted_ids == p + 1).sum()) > 0.5:
                counts[class_index]["fp"] += 1
    per_class = {}
    for class_index, n in counts.items():
        denominator = n["tp"] + n["fp"] / 2 + n["fn"] / 2
        if denominator:
            sq = n["iou"] / n["tp"] if n["tp"] else 0.0
            per_class[class_index] = (n["iou"] / denominator, sq, n["tp"] / denominator)
    groups = {}
    for name, chosen in (("all", {0, 1, 2, 3}), ("things", {0, 1}), ("stuff", {2, 3})):
        rows = [per_class[class_index] for class_index in per_class if class_index in chosen]
        groups[name] = (*np.mean(rows, axis=0), len(rows)) if rows else (0.0, 0.0, 0.0, 0)
    return per_class, groups


def random_image(rng: np.random.Generator):
    """Return an image of blocks, and a partly correct prediction without empty segments."""
    truth = np.repeat(np.repeat(rng.integers(0, 6, (4, 5)), 3, axis=0), 3, axis=1)
    classes = rng.integers(0, CLASSES, 5).tolist()
    crowd = rng.random(5) < 0.3
    wrong = rng.random(truth.shape) < rng.choice([0, 0.2, 0.6])
    predicted = np.where(wrong, rng.integers(0, 7, truth.shape), truth)
    kept, ids = np.unique(predicted, return_inverse=True)
    ids = ids.reshape(predicted.shape) + (0 if kept[0] == 0 else 1)
    right = [
        class_index if rng.random() < 0.8 else int(rng.integers(CLASSES))
        for class_index in [*classes, 1]
    ]
    given_ = [right[k - 1] for k in kept if k]
    return segments(truth, classes), crowd, segments(ids, given_)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6))
def test_qualities_equal_the_definition(seed: int, count: int):
    """Within 1e-9, with void, several crowds and wrong classes, in any order of images."""
    rng = np.random.default_rng(seed)
    images = [random_image(rng) for _ in range(count)]
    stats = [pq_stat(*image, SAME) for image in images]
    quality = panoptic_quality(sum_stats(stats, CLASSES), CATEGORIES)
    per_class, groups = reference(images)
    for class_index in range(CLASSES):
        ours = quality.per_class[CATEGORIES.name(class_index)]
        expected = per_class.get(class_index, (0.0, 0.0, 0.0))
        assert pytest.approx(expected, abs=1e-9) == (ours.PQ, ours.SQ, ours.RQ)
    for name, expected in groups.items():
        group = getattr(quality, name)
        assert (group.PQ, group.SQ, group.RQ, group.classes) == pytest.approx(expected, abs=1e-9)
    again = panoptic_quality(sum_stats(stats[::-1], CLASSES), CATEGORIES)
    assert pytest.approx(quality.all.PQ, abs=1e-12) == again.all.PQ


def test_the_ground_truth_has_a_quality_of_one():
    """Classes without segments are in no mean."""
    truth = segments([[1, 1, 2, 0]], [0, 2])
    quality = panoptic_quality(pq_stat(truth, np.zeros(2, bool), truth, SAME), CATEGORIES)
    assert (quality.all.PQ, quality.all.SQ, quality.all.RQ, quality.all.classes) == (1, 1, 1, 2)
    assert quality.things.classes == quality.stuff.classes == 1


def test_hand_computed_values():
    """Eight of ten cat pixels are found, and two sky pixels are predicted as sea."""
    truth = segments([[1] * 10 + [2] * 2], [0, 2])
    found = segments([[1] * 8 + [0] * 2 + [2] * 2], [0, 3])
    quality = panoptic_quality(pq_stat(truth, np.zeros(2, bool), found, SAME), CATEGORIES)
    assert pytest.approx(0.8) == quality.per_class["cat"].PQ
    assert quality.per_class["sky"].fn == quality.per_class["sea"].fp == 1
    assert pytest.approx(0.8) == quality.things.PQ
    assert pytest.approx(0.8 / 3) == quality.all.PQ
    assert pytest.approx(1 / 3) == quality.all.RQ


def test_an_iou_of_exactly_half_does_not_match():
    truth, found = segments([[1, 1, 1, 1]], [0]), segments([[1, 1, 0, 0]], [0])
    counted = pq_stat(truth, np.zeros(1, bool), found, SAME)
    assert (counted.tp[0], counted.fn[0], counted.fp[0]) == (0, 1, 1)


@pytest.mark.parametrize(("on_crowd", "fp"), [(6, 0), (5, 1)])
def test_segments_mostly_on_a_crowd_or_void_are_no_false_positives(on_crowd: int, fp: int):
    truth = segments([[1] * on_crowd + [2] * (10 - on_crowd)], [0, 2])
    found = segments([[1] * 10], [0])
    for crowd in (np.array([True, False]),):
        assert pq_stat(truth, crowd, found, SAME).fp[0] == fp
    void = segments([[0] * on_crowd + [1] * (10 - on_crowd)], [2])
    assert pq_stat(void, np.zeros(1, bool), found, SAME).fp[0] == fp


def test_classes_are_matched_by_the_given_class_indices():
    """Predictions of classes that the data set does not have are ignored."""
    truth = segments([[1, 1, 2, 2]], [0, 1])
    found = segments([[1, 1, 2, 2]], [3, 2])
    class_index_of = np.array([-1, -1, -1, 0])
    counted = pq_stat(truth, np.zeros(2, bool), found, class_index_of)
    assert counted.tp.tolist() == [1, 0, 0, 0]
    assert counted.fn.tolist() == [0, 1, 0, 0]
    assert counted.fp.sum() == 0


def test_images_without_segments():
    none, one = segments([[0, 0]], []), segments([[1, 1]], [1])
    count = partial(pq_stat, class_index_of=SAME)
    assert count(none, np.zeros(0, bool), none).fp.sum() == 0
    assert count(one, np.zeros(1, bool), none).fn.tolist() == [0, 1, 0, 0]
    assert count(none, np.zeros(0, bool), one).fp.sum() == 0  # all of it on void
    quality = panoptic_quality(sum_stats([], CLASSES), CATEGORIES)
    assert quality.all.classes == 0
