"""Panoptic quality is panopticapi's, void, crowds and all, however the images are dealt out."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.evaluation.metrics.panoptic_quality import panoptic_quality, pq_stat, sum_stats
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
    """PQ by its definition, a pair of segments at a time; returns per class and per group."""
    counts = {
        class_index: {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0} for class_index in range(CLASSES)
    }
    for truth, crowd, found in images:
        there, answer = truth.ids.numpy(), found.ids.numpy()
        owed, given_ = truth.classes.tolist(), found.classes.tolist()
        tp, answered = set(), set()
        for g, class_index in enumerate(owed):
            for p, other in enumerate(given_):
                both = int(((there == g + 1) & (answer == p + 1)).sum())
                if not both or crowd[g] or class_index != other:
                    continue
                void = int(((there == 0) & (answer == p + 1)).sum())
                union = int((there == g + 1).sum()) + int((answer == p + 1).sum()) - both - void
                if both / union > 0.5:
                    counts[class_index]["iou"] += both / union
                    counts[class_index]["tp"] += 1
                    tp.add(g)
                    answered.add(p)
        crowd_of = {}
        for g, class_index in enumerate(owed):
            if g in tp:
                continue
            if crowd[g]:
                crowd_of[class_index] = g
            else:
                counts[class_index]["fn"] += 1
        for p, class_index in enumerate(given_):
            if p in answered:
                continue
            excused = int(((there == 0) & (answer == p + 1)).sum())
            if class_index in crowd_of:
                excused += int(((there == crowd_of[class_index] + 1) & (answer == p + 1)).sum())
            if not excused / int((answer == p + 1).sum()) > 0.5:
                counts[class_index]["fp"] += 1
    per_class = {}
    for class_index, n in counts.items():
        owing = n["tp"] + n["fp"] / 2 + n["fn"] / 2
        if owing:
            sq = n["iou"] / n["tp"] if n["tp"] else 0.0
            per_class[class_index] = (n["iou"] / owing, sq, n["tp"] / owing)
    groups = {}
    for name, chosen in (("all", {0, 1, 2, 3}), ("things", {0, 1}), ("stuff", {2, 3})):
        rows = [per_class[class_index] for class_index in per_class if class_index in chosen]
        groups[name] = (*np.mean(rows, axis=0), len(rows)) if rows else (0.0, 0.0, 0.0, 0)
    return per_class, groups


def drawn(rng: np.random.Generator):
    """An image of blocks, and an answer that is partly right, each segment with a pixel."""
    truth = np.repeat(np.repeat(rng.integers(0, 6, (4, 5)), 3, axis=0), 3, axis=1)
    owed = rng.integers(0, CLASSES, 5).tolist()
    crowd = rng.random(5) < 0.3
    wrong = rng.random(truth.shape) < rng.choice([0, 0.2, 0.6])
    answer = np.where(wrong, rng.integers(0, 7, truth.shape), truth)
    kept, ids = np.unique(answer, return_inverse=True)
    ids = ids.reshape(answer.shape) + (0 if kept[0] == 0 else 1)
    right = [
        class_index if rng.random() < 0.8 else int(rng.integers(CLASSES))
        for class_index in [*owed, 1]
    ]
    given_ = [right[k - 1] for k in kept if k]
    return segments(truth, owed), crowd, segments(ids, given_)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6))
def test_qualities_are_those_of_the_definition(seed: int, count: int):
    """To 1e-9, with void, several crowds and wrong classes; and the order of images is nothing."""
    rng = np.random.default_rng(seed)
    images = [drawn(rng) for _ in range(count)]
    tallies = [pq_stat(*image, SAME) for image in images]
    quality = panoptic_quality(sum_stats(tallies, CLASSES), CATEGORIES)
    per_class, groups = reference(images)
    for class_index in range(CLASSES):
        ours = quality.per_class[CATEGORIES.name(class_index)]
        expected = per_class.get(class_index, (0.0, 0.0, 0.0))
        assert pytest.approx(expected, abs=1e-9) == (ours.PQ, ours.SQ, ours.RQ)
    for name, expected in groups.items():
        group = getattr(quality, name)
        assert (group.PQ, group.SQ, group.RQ, group.classes) == pytest.approx(expected, abs=1e-9)
    again = panoptic_quality(sum_stats(tallies[::-1], CLASSES), CATEGORIES)
    assert pytest.approx(quality.all.PQ, abs=1e-12) == again.all.PQ


def test_the_truth_is_perfect():
    """And what is not there takes part in no mean."""
    truth = segments([[1, 1, 2, 0]], [0, 2])
    quality = panoptic_quality(pq_stat(truth, np.zeros(2, bool), truth, SAME), CATEGORIES)
    assert (quality.all.PQ, quality.all.SQ, quality.all.RQ, quality.all.classes) == (1, 1, 1, 2)
    assert quality.things.classes == quality.stuff.classes == 1


def test_hand_computed_values():
    """Ten pixels of cat, of which eight are found, and two of sky that are called sea."""
    truth = segments([[1] * 10 + [2] * 2], [0, 2])
    found = segments([[1] * 8 + [0] * 2 + [2] * 2], [0, 3])
    quality = panoptic_quality(pq_stat(truth, np.zeros(2, bool), found, SAME), CATEGORIES)
    assert pytest.approx(0.8) == quality.per_class["cat"].PQ
    assert quality.per_class["sky"].fn == quality.per_class["sea"].fp == 1
    assert pytest.approx(0.8) == quality.things.PQ
    assert pytest.approx(0.8 / 3) == quality.all.PQ
    assert pytest.approx(1 / 3) == quality.all.RQ


def test_half_an_overlap_is_not_enough():
    """An IoU of exactly a half matches nothing: more than a half makes matches unique."""
    truth, found = segments([[1, 1, 1, 1]], [0]), segments([[1, 1, 0, 0]], [0])
    counted = pq_stat(truth, np.zeros(1, bool), found, SAME)
    assert (counted.tp[0], counted.fn[0], counted.fp[0]) == (0, 1, 1)


@pytest.mark.parametrize(("on_crowd", "fp"), [(6, 0), (5, 1)])
def test_what_lies_mostly_on_its_crowd_or_on_void_is_not_invented(on_crowd: int, fp: int):
    """A crowd of the same class excuses; one pixel less than over half does not."""
    truth = segments([[1] * on_crowd + [2] * (10 - on_crowd)], [0, 2])
    found = segments([[1] * 10], [0])
    for crowd in (np.array([True, False]),):
        assert pq_stat(truth, crowd, found, SAME).fp[0] == fp
    void = segments([[0] * on_crowd + [1] * (10 - on_crowd)], [2])
    assert pq_stat(void, np.zeros(1, bool), found, SAME).fp[0] == fp


def test_classes_are_matched_by_the_given_slots():
    """The model numbers classes otherwise; what the data set does not know counts as nothing."""
    truth = segments([[1, 1, 2, 2]], [0, 1])
    found = segments([[1, 1, 2, 2]], [3, 2])
    class_index_of = np.array([-1, -1, -1, 0])
    counted = pq_stat(truth, np.zeros(2, bool), found, class_index_of)
    assert counted.tp.tolist() == [1, 0, 0, 0]
    assert counted.fn.tolist() == [0, 1, 0, 0]
    assert counted.fp.sum() == 0


def test_empty_images_count_as_nothing_or_as_missed():
    """No segment there, none found, neither."""
    none, one = segments([[0, 0]], []), segments([[1, 1]], [1])
    count = partial(pq_stat, class_index_of=SAME)
    assert count(none, np.zeros(0, bool), none).fp.sum() == 0
    assert count(one, np.zeros(1, bool), none).fn.tolist() == [0, 1, 0, 0]
    assert count(none, np.zeros(0, bool), one).fp.sum() == 0  # all of it on void
    quality = panoptic_quality(sum_stats([], CLASSES), CATEGORIES)
    assert quality.all.classes == 0
