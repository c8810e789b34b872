"""What the decoder layers answer, with and without NMS, by construction."""

import numpy as np

from sample_datasets import index_of, results_of
from setmatch.evaluation.metrics.average_precision import Results
from setmatch.evaluation.metrics.per_layer import PerLayerDetections, layer_precision, survives_nms

A, B = [10, 10, 50, 50], [200, 10, 50, 50]


def test_nms_drops_worse_doubles_of_a_class_in_an_image():
    """Another class, another image and another place survive; the order given does not matter."""
    near = [12, 10, 50, 50]
    results = results_of(
        [1, 1, 1, 2, 1], [0, 0, 1, 0, 0], [near, A, near, near, B], [0.8, 0.9, 0.7, 0.6, 0.1]
    )
    assert survives_nms(results).tolist() == [False, True, True, True, True]
    assert survives_nms(results_of([], [], [], [])).tolist() == []


def test_nms_helps_a_layer_that_repeats_itself_and_no_other():
    """A first layer that finds A twice, a last one that finds all: AP before and after NMS."""
    index = index_of([1], [1], [0, 0], [0, 0], [A, B])
    first = results_of([1] * 3, [0] * 3, [A, A, B], [0.9, 0.8, 0.7])
    last = results_of([1] * 2, [0] * 2, [A, B], [0.9, 0.8])
    answers = PerLayerDetections((first, last), tuple(map(survives_nms, (first, last))))
    told = layer_precision(index, answers, 100)
    assert [each.layer for each in told] == [1, 2]
    assert told[0].AP < told[0].AP_with_nms == told[1].AP == told[1].AP_with_nms
    assert told[1].AP50 > 1 - 1e-9
    assert answers.results is last


def test_nms_hurts_where_objects_lie_close():
    """Two objects that overlap are both found; NMS takes one of them."""
    near = [22, 10, 50, 50]
    index = index_of([1], [1], [0, 0], [0, 0], [A, near])
    both = results_of([1] * 2, [0] * 2, [A, near], [0.9, 0.8])
    (told,) = layer_precision(index, PerLayerDetections((both,), (survives_nms(both),)), 100)
    assert told.AP > 1 - 1e-9 > told.AP_with_nms + 0.4


def test_processes_answers_are_put_together_in_order():
    """Layers and survivors stay with their detections; a process without images adds nothing."""
    one = results_of([3, 1], [0, 0], [A, B], [0.9, 0.8])
    two = results_of([2], [0], [A], [0.7])
    first = PerLayerDetections((one, one), (np.array([True, False]), np.array([True, True])))
    second = PerLayerDetections((two, two), (np.array([False]), np.array([True])))
    joined = PerLayerDetections.concatenate([first, PerLayerDetections(()), second])
    assert [layer.image_ids.tolist() for layer in joined.layers] == [[1, 2, 3]] * 2
    assert [kept.tolist() for kept in joined.survivors] == [[False, False, True], [True] * 3]
    assert joined.results.scores.tolist() == [0.8, 0.7, 0.9]
    empty = PerLayerDetections.concatenate([PerLayerDetections(())])
    assert (len(empty.results), empty.layers) == (0, ())
    assert isinstance(empty.results, Results)
