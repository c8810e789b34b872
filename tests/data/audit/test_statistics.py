"""Statistics agree with what training gets, and checks of annotations find each problem."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.data.audit.checks.checks import check_annotations, require_trainable
from setmatch.data.audit.findings import group_findings
from setmatch.data.audit.statistics import (
    Histogram,
    Percentiles,
    compute_statistics,
    objects_of,
    resize_scales,
)
from setmatch.data.batches.transforms import evaluation_px
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.errors import DataError
from setmatch.structures.metadata import Categories, Preprocessing

BOXES = st.tuples(*[st.floats(-50, 150)] * 2, *[st.floats(0, 100)] * 2)


def dataset_of(
    boxes: list[list[tuple[float, ...]]],
    class_indices: list[list[int]] | None = None,
    crowd: bool = False,
    size_px: tuple[int, int] = (100, 100),
    names: tuple[str, ...] = ("cat", "dog"),
    root: str = "images",
) -> DetectionDataset:
    """Return a data set with one list of boxes (x, y, width, height) per image."""
    flat = np.array([box for image in boxes for box in image], dtype=np.float64).reshape(-1, 4)
    files = [f"{number}.png".encode() for number in range(len(boxes))]
    chosen = [s for image in class_indices for s in image] if class_indices else [0] * len(flat)
    return DetectionDataset(
        source=Path("set.json"),
        images=Path(root),
        categories=Categories(tuple(range(len(names))), names),
        image_ids=np.arange(len(boxes)),
        sizes_px=np.tile(np.array(size_px, dtype=np.int32), (len(boxes), 1)),
        names=b"".join(files),
        name_offsets=np.cumsum([0, *map(len, files)]),
        offsets=np.cumsum([0, *map(len, boxes)]),
        xywh_px=flat,
        area_px=flat[:, 2] * flat[:, 3],
        class_indices=np.array(chosen, dtype=np.int32),
        crowd=np.full(len(flat), crowd),
        annotation_ids=np.arange(len(flat)) + 1,
    )


def finding_kinds(training: DetectionDataset, **others: DetectionDataset) -> list[str]:
    """Return the kinds of findings, without the one that there is no validation split."""
    findings = check_annotations({"train": training, **others}, 100, Preprocessing())
    return [each.kind for each in findings if each.kind != "no validation split"]


@given(st.lists(st.lists(BOXES, max_size=5), min_size=1, max_size=5), st.booleans())
def test_counted_objects_are_the_training_targets(boxes, crowd: bool):
    dataset = dataset_of(boxes, crowd=crowd)
    targets = [len(dataset.target(image)) for image in range(len(dataset))]
    statistics = compute_statistics("train", [dataset], Preprocessing())
    assert np.bincount(objects_of(dataset).image, minlength=len(dataset)).tolist() == targets
    assert statistics.objects == sum(targets) == sum(statistics.objects_per_class.values())
    assert statistics.images_without_objects == targets.count(0)
    assert statistics.objects + statistics.crowd + statistics.left_out == len(dataset.crowd)
    assert sum(statistics.objects_per_image_histogram.counts) == len(dataset)
    assert sum(statistics.aspect_ratio_histogram.counts) == len(dataset)


@given(st.tuples(st.integers(20, 3000), st.integers(20, 3000)), st.sampled_from([160, 480, 800]))
def test_resize_scales_agree_with_preprocessing(size_px: tuple[int, int], short_px: int):
    """The size after resizing is the model's input size, within rounding."""
    preprocessing = Preprocessing(short_px, round(short_px * 5 / 3))
    scale = resize_scales(np.array([size_px], dtype=np.int32), preprocessing)[0]
    input_px = evaluation_px(size_px, preprocessing)
    # Preprocessing rounds the shorter side first, and the longer one follows from it.
    tolerance_px = 1.5 + 0.5 * max(size_px) / min(size_px)
    assert np.abs(np.array(size_px) * scale - input_px).max() <= tolerance_px


def test_object_sizes_have_the_limits_of_coco():
    """32 and 96 squared are medium; resized sizes are counted after resizing."""
    boxes = [[(0, 0, 31, 32), (0, 0, 32, 32), (0, 0, 96, 96), (0, 0, 97, 96)]]
    statistics = compute_statistics("train", [dataset_of(boxes)], Preprocessing(50, 100))
    original, resized = statistics.original_sizes, statistics.resized_sizes
    assert (original.small, original.medium, original.large) == (1, 2, 1)
    assert (resized.small, resized.medium, resized.large) == (2, 2, 0)


def test_an_area_larger_than_the_image_is_limited_to_it():
    """Sizes stay finite whatever area a file claims."""
    dataset = replace(dataset_of([[(0, 0, 9, 9)]]), area_px=np.array([1.7e308]))
    statistics = compute_statistics("train", [dataset], Preprocessing())
    assert statistics.original_sizes.side_px.max == 100
    assert statistics.resized_sizes.side_px.max == 800


def test_splits_add_up_by_class_name():
    """The splits may number the same classes differently."""
    first = dataset_of([[(0, 0, 9, 9), (0, 0, 8, 8)]], [[0, 1]])
    second = dataset_of([[(0, 0, 9, 9)], []], [[0], []], names=("dog", "fox"))
    statistics = compute_statistics("all", [first, second], Preprocessing())
    assert statistics.objects_per_class == {"cat": 1, "dog": 2, "fox": 0}
    assert statistics.images_per_class == {"cat": 1, "dog": 2, "fox": 0}
    assert (statistics.images, statistics.images_without_objects) == (3, 1)


@given(st.lists(st.integers(0, 5000), max_size=50))
def test_a_histogram_counts_every_value(values: list[int]):
    """It has at most 25 bars; percentiles are in ascending order."""
    numbers = np.array(values, dtype=np.int64)
    bars = Histogram.of_integers(numbers)
    assert sum(bars.counts) == len(values)
    assert len(bars.counts) + 1 == len(bars.edges) <= 26
    percentiles = Percentiles.of(numbers)
    assert percentiles.min <= percentiles.p5 <= percentiles.median
    assert percentiles.median <= percentiles.p95 <= percentiles.max


def test_a_clean_split_has_no_findings():
    boxes = [[(5 * k, 5, 40, 40), (5, 5 * k, 30, 40)] for k in range(10)]
    assert finding_kinds(dataset_of(boxes, [[0, 1]] * 10)) == []


def test_images_with_more_objects_than_queries_are_found():
    boxes = [[(0, 0, 9 + k, 50) for k in range(n)] for n in (3, 4, 6)]
    dataset = dataset_of(boxes, names=("cat",))
    findings = check_annotations({"train": dataset}, 3, Preprocessing())
    crowded = [each for each in findings if each.kind == "image with more objects than queries"]
    assert [(each.file, each.value) for each in crowded] == [
        ("1.png", "4 objects"),
        ("2.png", "6 objects"),
    ]


def test_equal_boxes_of_two_classes_are_found():
    """Equal boxes of one class are reported by the reader, not here."""
    box = (5.0, 5.0, 50.0, 60.0)
    dataset = dataset_of([[box, box, box, (1, 1, 50, 60)], [box]], [[0, 1, 0, 1], [1]])
    findings = check_annotations({"train": dataset}, 100, Preprocessing())
    assert [(each.kind, each.annotation) for each in findings if each.annotation] == [
        ("the same box with two classes", 2),
    ]


def test_fixes_of_a_file_that_is_split_are_reported_once():
    """Splits taken from one file share its fixes; what was kept is a note."""
    box = [[(0, 0, 50, 50)]] * 10
    fixes = (
        AnnotationFix("a.png", 3, "bbox [0, 0, 0, 5]", "box without area: left out of training"),
        AnnotationFix("a.txt", None, "0 .5 .5 .1 .1", "the same box and class again: kept", 7),
    )
    dataset = replace(dataset_of(box, names=("cat",)), fixes=fixes, notes=("divided",))
    other = replace(dataset, images=Path("elsewhere"))
    findings = check_annotations({"train": dataset, "val": other}, 100, Preprocessing())
    assert [(each.severity, each.kind, each.action) for each in findings] == [
        ("note", "how the data set was read", ""),
        ("fixed", "box without area", "left out of training"),
        ("note", "the same box and class again", "kept"),
    ]
    assert (findings[1].annotation, findings[2].line) == (3, 7)


def test_tiny_objects_are_one_finding():
    """It gives their number and the smallest one."""
    dataset = dataset_of([[(0, 0, 2, 2), (9, 9, 0.25, 1), (0, 0, 50, 50)]], size_px=(800, 800))
    (tiny,) = (
        each
        for each in check_annotations({"train": dataset}, 100, Preprocessing())
        if "smaller than 8 px" in each.kind
    )
    assert tiny.annotation == 2
    assert tiny.value.startswith("2 objects (66.7%); the smallest is 0.5 px, bbox [9, 9, 0.25, 1]")


def test_images_narrower_than_a_feature_cell_are_found():
    """Both strips that the longest side makes so narrow, and images that are upscaled."""
    sizes_px = np.array([[40, 4000], [20, 20], [3000, 70]], dtype=np.int32)
    dataset = replace(dataset_of([[(0, 0, 9, 9)]] * 3), sizes_px=sizes_px)
    findings = check_annotations({"train": dataset}, 100, Preprocessing())
    strips = [each for each in findings if "32 px after" in each.kind]
    assert [(each.file, each.value) for each in strips] == [
        ("0.png", "resized to 1333x13 pixels"),
        ("2.png", "resized to 31x1333 pixels"),
    ]
    assert "raise data.long_side_px" in strips[0].action
    (small,) = (each for each in findings if each.kind == "image narrower than 32 px")
    assert (small.file, small.value) == ("1.png", "20x20 pixels, resized to 800x800 pixels")
    assert "use a larger image" in small.action


def test_classes_that_cannot_be_learned_or_measured_are_found():
    """Classes with few or no boxes, missing from a split, or absent from the training split."""
    many = [[(k, 0, 50, 50) for k in range(12)]]
    training = dataset_of(many, [[0] * 11 + [1]], names=("cat", "dog", "eel"))
    validation = dataset_of([[(0, 0, 50, 50)]], [[1]], names=("cat", "fox"), root="other")
    assert finding_kinds(training, val=validation) == [
        "class with fewer than 10 objects",
        "class without a box",
        "class missing from a split",
        "class without a training object",
    ]


def test_a_file_in_two_splits_is_an_error():
    """The same file name in another folder is not."""
    dataset = dataset_of([[(0, 0, 50, 50)] * 1] * 10, names=("cat",))
    leaks = check_annotations({"train": dataset, "val": dataset}, 100, Preprocessing())
    assert {each.severity for each in leaks} == {"error"}
    assert len(leaks) == 10
    other = dataset_of([[(0, 0, 50, 50)] * 1] * 10, names=("cat",), root="elsewhere")
    assert check_annotations({"train": dataset, "val": other}, 100, Preprocessing()) == []


def test_only_a_split_without_any_object_is_refused():
    """The error tells what became of the annotations."""
    require_trainable(dataset_of([[], [(0, 0, 9, 9)]]))
    with pytest.raises(DataError, match="1 crowd regions"):
        require_trainable(dataset_of([[(0, 0, 9, 9)]], crowd=True))
    with pytest.raises(DataError, match="no annotations"):
        require_trainable(dataset_of([[], []]))


def test_findings_are_grouped_by_kind_errors_first():
    dataset = dataset_of([[(0, 0, 50, 50)] * 2] * 3, names=("cat",))
    findings = check_annotations({"train": dataset, "val": dataset}, 1, Preprocessing())
    groups = group_findings(findings)
    assert groups[0].first.severity == "error"
    assert [len(group.findings) for group in groups][1:] == [6, 2]


@pytest.mark.thorough
def test_the_time_grows_with_the_data_and_no_faster():
    """So that a data set as large as COCO, 118,000 images with 860,000 boxes, takes seconds."""
    seconds_of_check(1_000, 7_000)  # imports and caches
    assert seconds_of_check(80_000, 560_000) < 40 * seconds_of_check(8_000, 56_000)


def seconds_of_check(images: int, boxes: int) -> float:
    """Return the CPU seconds of statistics and checks."""
    random = np.random.default_rng(0)
    files = b"".join(f"{number:012d}.jpg".encode() for number in range(images))
    xywh_px = random.uniform([0, 0, 2, 2], [300, 300, 150, 150], (boxes, 4))
    per_image = np.bincount(random.integers(0, images, boxes), minlength=images)
    dataset = DetectionDataset(
        source=Path("set.json"),
        images=Path("images"),
        categories=Categories(tuple(range(80)), tuple(f"class {k}" for k in range(80))),
        image_ids=np.arange(images),
        sizes_px=random.integers(300, 640, (images, 2)).astype(np.int32),
        names=files,
        name_offsets=np.arange(images + 1) * 16,
        offsets=np.concatenate([[0], np.cumsum(per_image)]),
        xywh_px=xywh_px,
        area_px=xywh_px[:, 2:].prod(axis=1),
        class_indices=random.integers(0, 80, boxes).astype(np.int32),
        crowd=random.random(boxes) < 0.01,
        annotation_ids=np.arange(boxes),
    )
    start = time.process_time()
    compute_statistics("train", [dataset], Preprocessing())
    check_annotations({"train": dataset}, 100, Preprocessing())
    return time.process_time() - start
