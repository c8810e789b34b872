"""What a survey counts is what is there, and what training will learn from."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.data.audit.checks import findings_of, grouped, require_trainable
from setmatch.data.audit.statistics import Histogram, Spread, facts_of, objects_of, scales
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.transforms import evaluation_px
from setmatch.errors import DataError
from setmatch.structures.metadata import Categories, Preprocessing

BOXES = st.tuples(*[st.floats(-50, 150)] * 2, *[st.floats(0, 100)] * 2)


def index_of(
    boxes: list[list[tuple[float, ...]]],
    class_indices: list[list[int]] | None = None,
    crowd: bool = False,
    size_px: tuple[int, int] = (100, 100),
    names: tuple[str, ...] = ("cat", "dog"),
    root: str = "images",
) -> DetectionDataset:
    """An index of one list of boxes (x, y, width, height) for each image."""
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


def whats(index: DetectionDataset, num_queries: int = 100, **others: DetectionDataset) -> list[str]:
    """What is found in a training split, besides that there is no other."""
    found = findings_of({"train": index, **others}, num_queries, Preprocessing())
    return [each.what for each in found if each.what != "no validation split"]


@given(st.lists(st.lists(BOXES, max_size=5), min_size=1, max_size=5), st.booleans())
def test_objects_are_those_that_training_gives_out(boxes, crowd: bool):
    """The survey and the loader agree on which annotations are learned, whatever the boxes."""
    index = index_of(boxes, crowd=crowd)
    learned = [len(index.target(image)) for image in range(len(index))]
    facts = facts_of("train", [index], Preprocessing())
    assert np.bincount(objects_of(index).image, minlength=len(index)).tolist() == learned
    assert facts.objects == sum(learned) == sum(facts.class_objects.values())
    assert facts.empty_images == learned.count(0)
    assert facts.objects + facts.crowd + facts.left_out == len(index.crowd)
    assert sum(facts.crowding.counts) == len(index) == sum(facts.aspects.counts)


@given(st.tuples(st.integers(20, 3000), st.integers(20, 3000)), st.sampled_from([160, 480, 800]))
def test_resized_sizes_follow_the_published_rule(size_px: tuple[int, int], short_px: int):
    """What the survey calls the size after resizing is the model's, within the rounding."""
    preprocessing = Preprocessing(short_px, round(short_px * 5 / 3))
    scale = scales(np.array([size_px], dtype=np.int32), preprocessing)[0]
    seen = evaluation_px(size_px, preprocessing)
    # The rule rounds the shorter side first, and the longer one follows from it.
    tolerance_px = 1.5 + 0.5 * max(size_px) / min(size_px)
    assert np.abs(np.array(size_px) * scale - seen).max() <= tolerance_px


def test_sizes_have_coco_s_limits():
    """32 and 96 squared belong to medium, and what is seen is counted after resizing."""
    boxes = [[(0, 0, 31, 32), (0, 0, 32, 32), (0, 0, 96, 96), (0, 0, 97, 96)]]
    facts = facts_of("train", [index_of(boxes)], Preprocessing(50, 100))
    assert (facts.original.small, facts.original.medium, facts.original.large) == (1, 2, 1)
    assert (facts.seen.small, facts.seen.medium, facts.seen.large) == (2, 2, 0)


def test_an_absurd_area_is_not_counted_beyond_the_image():
    """Whatever area a file claims, sizes stay finite."""
    index = replace(index_of([[(0, 0, 9, 9)]]), area_px=np.array([1.7e308]))
    facts = facts_of("train", [index], Preprocessing())
    assert facts.original.side_px.most == 100
    assert facts.seen.side_px.most == 800


def test_splits_add_up_by_class_name():
    """Splits that number the same classes differently are counted together by name."""
    one = index_of([[(0, 0, 9, 9), (0, 0, 8, 8)]], [[0, 1]])
    two = index_of([[(0, 0, 9, 9)], []], [[0], []], names=("dog", "fox"))
    facts = facts_of("all", [one, two], Preprocessing())
    assert facts.class_objects == {"cat": 1, "dog": 2, "fox": 0}
    assert facts.class_images == {"cat": 1, "dog": 2, "fox": 0}
    assert (facts.images, facts.empty_images) == (3, 1)


@given(st.lists(st.integers(0, 5000), max_size=50))
def test_every_image_stands_in_a_bar(values: list[int]):
    """A histogram loses nobody, has few bars, and a spread lies between its extremes."""
    numbers = np.array(values, dtype=np.int64)
    bars = Histogram.whole(numbers)
    assert sum(bars.counts) == len(values)
    assert len(bars.counts) + 1 == len(bars.edges) <= 26
    spread = Spread.of(numbers)
    assert spread.least <= spread.low <= spread.median <= spread.high <= spread.most


def test_a_sound_split_has_no_findings():
    """Nothing is made up."""
    boxes = [[(5 * k, 5, 40, 40), (5, 5 * k, 30, 40)] for k in range(10)]
    assert whats(index_of(boxes, [[0, 1]] * 10)) == []


def test_more_objects_than_queries_are_named():
    """The images with objects that the model cannot answer for are listed, each with its count."""
    index = index_of([[(0, 0, 9 + k, 50) for k in range(n)] for n in (3, 4, 6)], names=("cat",))
    found = findings_of({"train": index}, 3, Preprocessing())
    crowded = [each for each in found if each.what == "image with more objects than queries"]
    assert [(each.file, each.value) for each in crowded] == [
        ("1.png", "4 objects"),
        ("2.png", "6 objects"),
    ]


def test_contradictory_boxes_are_named():
    """A box that two classes claim is named; the same class twice is the reader's to tell."""
    box = (5.0, 5.0, 50.0, 60.0)
    index = index_of([[box, box, box, (1, 1, 50, 60)], [box]], [[0, 1, 0, 1], [1]])
    found = findings_of({"train": index}, 100, Preprocessing())
    assert [(each.what, each.annotation) for each in found if each.annotation] == [
        ("the same box under two classes", 2),
    ]


def test_repairs_of_a_divided_file_are_told_once():
    """Splits made from one file share its repairs, which count once; what was kept is a note."""
    box = [[(0, 0, 50, 50)]] * 10
    repairs = (
        AnnotationFix("a.png", 3, "bbox [0, 0, 0, 5]", "box without area: left out of training"),
        AnnotationFix("a.txt", None, "0 .5 .5 .1 .1", "the same box and class again: kept", 7),
    )
    index = replace(index_of(box, names=("cat",)), fixes=repairs, notes=("divided",))
    other = replace(index, images=Path("elsewhere"))
    found = findings_of({"train": index, "val": other}, 100, Preprocessing())
    assert [(each.severity, each.what, each.done) for each in found] == [
        ("note", "how it was opened", ""),
        ("repaired", "box without area", "left out of training"),
        ("note", "the same box and class again", "kept"),
    ]
    assert (found[1].annotation, found[2].line) == (3, 7)


def test_tiny_objects_are_counted_once():
    """One finding says how many nearly vanish, and names the smallest."""
    index = index_of([[(0, 0, 2, 2), (9, 9, 0.25, 1), (0, 0, 50, 50)]], size_px=(800, 800))
    (tiny,) = (
        each
        for each in findings_of({"train": index}, 100, Preprocessing())
        if "under 8 px" in each.what
    )
    assert tiny.annotation == 2
    assert tiny.value.startswith("2 objects (66.7%); the smallest has 0.5 px, bbox [9, 9, 0.25, 1]")


def test_images_narrower_than_a_cell_of_features_are_named():
    """Strips that the longest side makes as thin as that, and pictures that are enlarged."""
    sizes_px = np.array([[40, 4000], [20, 20], [3000, 70]], dtype=np.int32)
    index = replace(index_of([[(0, 0, 9, 9)]] * 3), sizes_px=sizes_px)
    found = findings_of({"train": index}, 100, Preprocessing())
    strips = [each for each in found if "32 px after" in each.what]
    assert [(each.file, each.value) for each in strips] == [
        ("0.png", "seen in 1333x13 pixels"),
        ("2.png", "seen in 31x1333 pixels"),
    ]
    assert "raise data.long_side_px" in strips[0].done
    (small,) = (each for each in found if each.what == "image narrower than 32 px")
    assert (small.file, small.value) == ("1.png", "20x20 pixels, seen in 800x800 pixels")
    assert "take larger pictures" in small.done


def test_classes_that_cannot_be_learned_or_measured_are_named():
    """Classes with few or no boxes, missing from a split, or only to be found elsewhere."""
    many = [[(k, 0, 50, 50) for k in range(12)]]
    training = index_of(many, [[0] * 11 + [1]], names=("cat", "dog", "eel"))
    validation = index_of([[(0, 0, 50, 50)]], [[1]], names=("cat", "fox"), root="other")
    assert whats(training, val=validation) == [
        "class with under 10 objects",
        "class without a box",
        "class missing from a split",
        "class without an object to learn from",
    ]


def test_a_file_of_two_splits_must_be_mended():
    """The same file in training and validation is a leak; the same name elsewhere is not."""
    index = index_of([[(0, 0, 50, 50)] * 1] * 10, names=("cat",))
    leak = findings_of({"train": index, "val": index}, 100, Preprocessing())
    assert {each.severity for each in leak} == {"mend"}
    assert len(leak) == 10
    other = index_of([[(0, 0, 50, 50)] * 1] * 10, names=("cat",), root="elsewhere")
    assert findings_of({"train": index, "val": other}, 100, Preprocessing()) == []


def test_only_a_split_without_any_object_is_refused():
    """One object is enough to train on; none is an error that says what became of the rest."""
    require_trainable(index_of([[], [(0, 0, 9, 9)]]))
    with pytest.raises(DataError, match="1 crowd regions"):
        require_trainable(index_of([[(0, 0, 9, 9)]], crowd=True))
    with pytest.raises(DataError, match="no annotations"):
        require_trainable(index_of([[], []]))


def test_findings_are_grouped_by_kind_gravest_first():
    """What must be mended comes before what is merely worth knowing."""
    index = index_of([[(0, 0, 50, 50)] * 2] * 3, names=("cat",))
    groups = grouped(findings_of({"train": index, "val": index}, 1, Preprocessing()))
    assert groups[0].first.severity == "mend"
    assert [len(group.findings) for group in groups][1:] == [6, 2]


def test_as_many_images_as_coco_take_seconds():
    """118,000 images with 860,000 boxes are counted and searched from the arrays alone."""
    random = np.random.default_rng(0)
    images, boxes = 118_000, 860_000
    files = b"".join(f"{number:012d}.jpg".encode() for number in range(images))
    xywh_px = random.uniform([0, 0, 2, 2], [300, 300, 150, 150], (boxes, 4))
    per_image = np.bincount(random.integers(0, images, boxes), minlength=images)
    index = DetectionDataset(
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
    began = time.process_time()
    facts_of("train", [index], Preprocessing())
    findings_of({"train": index}, 100, Preprocessing())
    assert time.process_time() - began < 20  # about 3 s; the machine may be slow
