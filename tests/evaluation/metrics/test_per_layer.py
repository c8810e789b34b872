"""AP after each decoder layer, with and without NMS."""

import numpy as np

from sample_datasets import index_of, results_of
from setmatch.evaluation.metrics.coco import Results
from setmatch.evaluation.metrics.per_layer import PerLayerDetections, layer_precision, survives_nms

A, B = [10, 10, 50, 50], [200, 10, 50, 50]


def test_nms_drops_worse_duplicates_of_a_class_in_an_image():
    """Other classes, images and places are kept, in any order."""
    near = [12, 10, 50, 50]
    results = results_of(
        [1, 1, 1, 2, 1], [0, 0, 1, 0, 0], [near, A, near, near, B], [0.8, 0.9, 0.7, 0.6, 0.1]
    )
    assert survives_nms(results).tolist() == [False, True, True, True, True]
    assert survives_nms(results_of([], [], [], [])).tolist() == []


def test_nms_helps_only_a_layer_with_duplicates():
    index = index_of([1], [1], [0, 0], [0, 0], [A, B])
    first = results_of([1] * 3, [0] * 3, [A, A, B], [0.9, 0.8, 0.7])
    last = results_of([1] * 2, [0] * 2, [A, B], [0.9, 0.8])
    detections = PerLayerDetections((first, last), tuple(map(survives_nms, (first, last))))
    layers = layer_precision(index, detections, 100)
    assert [each.layer for each in layers] == [1, 2]
    assert layers[0].AP < layers[0].AP_with_nms == layers[1].AP == layers[1].AP_with_nms
    assert layers[1].AP50 > 1 - 1e-9
    assert detections.results is last


def test_nms_hurts_if_objects_overlap():
    near = [22, 10, 50, 50]
    index = index_of([1], [1], [0, 0], [0, 0], [A, near])
    both = results_of([1] * 2, [0] * 2, [A, near], [0.9, 0.8])
    (layer,) = layer_precision(index, PerLayerDetections((both,), (survives_nms(both),)), 100)
    assert layer.AP > 1 - 1e-9 > layer.AP_with_nms + 0.4


def test_detections_of_processes_are_concatenated_in_order():
    """A process without images adds nothing."""
    one = results_of([3, 1], [0, 0], [A, B], [0.9, 0.8])
    two = results_of([2], [0], [A], [0.7])
    first = PerLayerDetections((one, one), (np.array([True, False]), np.array([True, True])))
    second = PerLayerDetections((two, two), (np.array([False]), np.array([True])))
    both = PerLayerDetections.concatenate([first, PerLayerDetections(()), second])
    assert [layer.image_ids.tolist() for layer in both.layers] == [[1, 2, 3]] * 2
    assert [each.tolist() for each in both.survivors] == [[False, False, True], [True] * 3]
    assert both.results.scores.tolist() == [0.8, 0.7, 0.9]
    empty = PerLayerDetections.concatenate([PerLayerDetections(())])
    assert (len(empty.results), empty.layers) == (0, ())
    assert isinstance(empty.results, Results)
