"""COCO metrics equal those of pycocotools, except for two intended differences."""

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sample_datasets import index_of, random_set, results_of
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import ConfigError, DataError
from setmatch.evaluation.metrics.coco import AveragePrecision, Results, average_precision
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from thorough import usually

NUMBERS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def pycocotools_evaluation(
    index: DetectionDataset, results: Results, limits: list[int] | None = None
) -> COCOeval:
    """Evaluate with pycocotools, from plain dictionaries."""
    image = np.repeat(index.image_ids, np.diff(index.offsets)).tolist()
    ids = index.categories.ids
    annotations = [
        {
            "id": int(index.annotation_ids[i]),
            "image_id": image[i],
            "category_id": ids[index.class_indices[i]],
            "bbox": index.xywh_px[i].tolist(),
            "area": float(index.area_px[i]),
            "iscrowd": int(index.crowd[i]),
        }
        for i in range(len(image))
    ]
    frame = {
        "images": [{"id": i} for i in index.image_ids.tolist()],
        "categories": [{"id": i, "name": str(i)} for i in ids],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = frame | {"annotations": annotations}
        truth.createIndex()
        if len(results):  # loadRes takes no empty list
            found = truth.loadRes(results.to_coco(index.categories))
        else:
            found.dataset = frame | {"annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        if limits:
            evaluation.params.maxDets = limits
        evaluation.evaluate()
        evaluation.accumulate()
        if not limits:
            evaluation.summarize()
    return evaluation


def assert_equal_to_pycocotools(index: DetectionDataset, results: Results) -> AveragePrecision:
    ours, theirs = average_precision(index, results), pycocotools_evaluation(index, results)
    assert list(ours.numbers()) == NUMBERS
    np.testing.assert_allclose(list(ours.numbers().values()), theirs.stats, rtol=0, atol=1e-12)
    for class_index, name in enumerate(index.categories.names):
        values = theirs.eval["precision"][:, :, class_index, 0, -1]
        expected = values[values > -1].mean() if (values > -1).any() else -1
        assert abs(ours.per_class[name].AP - expected) <= 1e-12
    return ours


@pytest.mark.promise(14, cases=200)
def test_metrics_equal_pycocotools_on_200_random_data_sets():
    """All metrics and AP per class within 1e-12; many of the sets are not trivial."""
    found = [assert_equal_to_pycocotools(*random_set(seed)).AP for seed in range(200)]
    assert sum(0 < ap < 1 for ap in found) > 80
    assert sum(ap == -1 for ap in found) > 10


@settings(max_examples=30)
@given(st.integers(1000, 10**9))
def test_metrics_equal_pycocotools_for_any_seed(seed: int):
    assert_equal_to_pycocotools(*random_set(seed))


@pytest.mark.promise(14, cases=1_000)
@pytest.mark.campaign
def test_metrics_equal_pycocotools_on_1000_more_data_sets():
    for seed in range(10_000, 11_000):
        assert_equal_to_pycocotools(*random_set(seed))


def test_an_annotation_with_id_zero_counts():
    """Intended difference 1: pycocotools treats a match with annotation 0 as no match."""
    boxes = [[10, 10, 50, 50], [100, 100, 50, 50]]
    index = index_of([1], [1], [0, 0], [0, 0], boxes, annotation_ids=np.array([0, 1]))
    results = results_of([1, 1], [0, 0], boxes, [0.9, 0.8])
    assert average_precision(index, results).AP > 1 - 1e-12
    assert pycocotools_evaluation(index, results).stats[0] < 0.6


@pytest.mark.parametrize("limit", usually([1, 20, 300], 1))
def test_limits_other_than_100_have_an_ap(limit: int):
    """Intended difference 2, cocoapi #558: pycocotools returns an AP of -1."""
    for seed in range(40):
        index, results = random_set(seed)
        ours = average_precision(index, results, max_detections=limit)
        limits = sorted({1, 10, 100, limit})
        theirs = pycocotools_evaluation(index, results, limits).eval
        at = limits.index(limit)
        for number, values in (
            (ours.AP, theirs["precision"][..., 0, at]),
            (ours.AP50, theirs["precision"][0, ..., 0, at]),
            (ours.APl, theirs["precision"][..., 3, at]),
            (ours.ARs, theirs["recall"][..., 1, at]),
            (ours.AR100, theirs["recall"][..., 0, limits.index(100)]),
        ):
            expected = values[values > -1].mean() if (values > -1).any() else -1
            assert abs(number - expected) <= 1e-12


def test_classes_without_objects_have_minus_one_and_missed_classes_have_zero():
    """The mean excludes -1."""
    index = index_of([5], [1, 2, 3], [0, 0], [0, 1], [[0, 0, 10, 10], [50, 50, 12, 12]])
    ours = average_precision(index, results_of([5], [0], [[0, 0, 10, 10]], [0.5]))
    assert [each.AP for each in ours.per_class.values()] == [pytest.approx(1), 0, -1]
    assert [each.boxes for each in ours.per_class.values()] == [1, 1, 0]
    assert (ours.AP, ours.APs) == (pytest.approx(0.5), pytest.approx(0.5))
    assert (ours.APm, ours.APl, ours.ARl) == (-1, -1, -1)


def test_image_ids_above_2_to_the_53_stay_distinct():
    """A float would make neighbors equal."""
    ids = [2**60 + 1, 2**60]
    index = index_of(ids, [2**60 + 3], [0], [0], [[0, 0, 10, 10]])
    right = average_precision(index, results_of([ids[0]], [0], [[0, 0, 10, 10]], [1.0]))
    wrong = average_precision(index, results_of([ids[1]], [0], [[0, 0, 10, 10]], [1.0]))
    assert right.AP > 1 - 1e-12
    assert wrong.AP == 0


@given(st.integers(0, 200), st.integers(1, 4))
def test_concatenated_results_do_not_depend_on_the_number_of_processes(seed: int, world: int):
    index, results = random_set(seed)
    parts = [np.isin(results.image_ids, index.image_ids[rank::world]) for rank in range(world)]
    columns = (results.image_ids, results.class_indices, results.xywh_px, results.scores)
    joined = Results.concatenate([Results(*(c[part] for c in columns)) for part in parts])
    whole = Results.concatenate([results])
    assert joined.to_coco(index.categories) == whole.to_coco(index.categories)
    assert average_precision(index, joined) == average_precision(index, results)


def test_classes_that_the_data_set_does_not_have_are_left_out():
    categories = Categories((1, 2, 3), ("a", "b", "c"))
    boxes = torch.tensor([[1.0, 2.0, 4.0, 8.0]]).repeat(3, 1)
    found = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.arange(3), categories, (9, 9))
    results = Results.from_detections([found, found], [4, 2], np.array([1, -1, 0]))
    assert results.image_ids.tolist() == [4, 4, 2, 2]
    assert results.class_indices.tolist() == [1, 0, 1, 0]
    assert results.xywh_px.tolist() == [[1.0, 2.0, 3.0, 6.0]] * 4


@pytest.mark.parametrize(
    ("results", "what"),
    [
        (results_of([9], [0], [[0, 0, 1, 1]], [1]), "image id 9"),
        (results_of([1], [3], [[0, 0, 1, 1]], [1]), "class"),
        (results_of([1], [0], [[0, 0, 1, 1]], [np.nan]), "not finite"),
        (results_of([1], [0], [[0, np.inf, 1, 1]], [1]), "not finite"),
    ],
)
def test_invalid_results_are_refused(results: Results, what: str):
    """They are of another data set, or of a diverged model."""
    index = index_of([1], [1], [0], [0], [[0, 0, 1, 1]])
    with pytest.raises(DataError, match=what):
        average_precision(index, results)


def test_a_limit_of_zero_is_refused():
    with pytest.raises(ConfigError, match="max_detections = 0"):
        average_precision(*random_set(0), max_detections=0)
