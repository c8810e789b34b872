"""COCO boxes of other conventions and turned boxes are read as they are meant, and said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from setmatch.data.annotations.box_convention import BoxConvention
from setmatch.data.annotations.boxes_in_pixels import turned_xywh_px
from setmatch.data.audit.checks.checks import check_annotations
from setmatch.data.audit.fix import fix_coco
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from setmatch.structures.metadata import Preprocessing
from small_coco import Change, annotation, edited, object_, read, sound, write_images
from written_boxes import random_boxes, write_set

TURNED = "box turned by its rotation: read as the box around it"
NO_NUMBER = "rotation that is not a number: read as 0"
ROTATION_KEYS = ["rotation", "Rotation", "ROTATION", "angle", "Angle", "ANGLE"]
BOX = [6, 4, 30, 20]  # of a 60 × 40 image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def turned(rotation: Any, **more: Any) -> Change:
    return object_(0, attributes={"occluded": False, "rotation": rotation}, **more)


def found(dataset: DetectionDataset) -> tuple[list[float], list[tuple[Any, ...]]]:
    fixes = [
        (fix.file, fix.annotation, fix.value, fix.description)
        for fix in dataset.fixes
        if "rotation" in fix.description
    ]
    return dataset.xywh_px[0].round(2).tolist(), fixes


@pytest.mark.parametrize("key", ROTATION_KEYS)
def test_the_attribute_may_be_written_in_capitals(folder: Path, key: str):
    dataset = read(folder, edited(object_(0, attributes={key: 90})))
    assert found(dataset)[0] == [11, -1, 20, 30]


ROTATIONS = {
    "a right angle": (90.0, [11, -1, 20, 30], "rotation 90.0"),
    "an integer": (270, [11, -1, 20, 30], "rotation 270.0"),
    "text": ("-90", [11, -1, 20, 30], "rotation -90.0"),
    "oblique": (30.0, [3.01, -2.16, 35.98, 32.32], "rotation 30.0"),
    "the other way": (-30.0, [3.01, -2.16, 35.98, 32.32], "rotation -30.0"),
    "more than a turn": (390.0, [3.01, -2.16, 35.98, 32.32], "rotation 390.0"),
    "none": (0.0, BOX, None),
    "null": (None, BOX, None),
    "half a turn": (180, BOX, None),
    "whole turns": (-720.0, BOX, None),
}


@pytest.mark.parametrize(("rotation", "box", "value"), ROTATIONS.values(), ids=ROTATIONS)
def test_a_turned_box_is_read_as_the_box_around_it(folder: Path, rotation, box, value):
    dataset = read(folder, edited(turned(rotation)))
    expected = [] if value is None else [("a.png", 1, value, TURNED)]
    assert found(dataset) == (box, expected)
    assert dataset.area_px[0] == 100


@pytest.mark.parametrize("rotation", [90, 90.0, "90", -90])
def test_a_rotation_beside_the_box_turns_it_too(folder: Path, rotation: Any):
    dataset = read(folder, edited(object_(0, rotation=rotation)))
    assert found(dataset)[0] == [11, -1, 20, 30]
    both = edited(object_(0, rotation=45, attributes={"rotation": 0}))
    assert found(read(folder, both))[0] == BOX


def test_the_hull_of_a_triangle_at_three_corners_is_turned_already(folder: Path):
    """Only polygons at all four corners may just repeat the box."""
    x, y, w, h = BOX
    triangle = [[x, y, x + w, y, x + w, y + h]]
    rectangle = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    read_as = [
        found(read(folder, edited(object_(0, rotation=90, segmentation=each))))[0]
        for each in (triangle, rectangle)
    ]
    assert read_as == [BOX, [11, -1, 20, 30]]


NO_BOX = "no box of four numbers, and no segmentation: left out"
POLYGONS = [[6, 4, 20, 4, 20, 9], [30, 5, 36, 24, 31, 20]]
RUNS = {"size": [40, 60], "counts": [244, *([20, 20] * 29), 20, 976]}  # the pixels of BOX


@pytest.mark.crossed
@pytest.mark.parametrize("absent", [None, [], [1, 2], ["6", "4", "x", "20"], {}, "6 4 30", 6])
@pytest.mark.parametrize(
    "segmentation", [POLYGONS, RUNS, [[1, 2], *POLYGONS]], ids=["polygons", "runs", "a bad one"]
)
def test_an_object_without_a_box_has_that_around_its_segmentation(
    folder: Path, absent: Any, segmentation: Any
):
    turned = {"rotation": 90, "attributes": {"rotation": 45}}  # the segmentation is, too
    for more in ({}, turned):
        dataset = read(folder, edited(object_(0, bbox=absent, segmentation=segmentation, **more)))
        assert dataset.xywh_px[0].tolist() == BOX
        assert dataset.fix_counts["no box: the box around its segmentation"] == 1
        assert NO_BOX not in dataset.fix_counts


@pytest.mark.parametrize(
    "segmentation",
    [
        *([], [[1, 2, 3, 4]], "x", [["a"]], None, {}, {"counts": "1", "size": [40, 60]}),
        {"size": [60, 40], "counts": [0, 2400]},  # of another image
        {"size": [40, 60], "counts": [2400]},  # nothing
    ],
    ids=str,
)
def test_an_object_without_box_and_segmentation_is_left_out_alone(folder: Path, segmentation: Any):
    dataset = read(folder, edited(object_(0, bbox=None, segmentation=segmentation)))
    assert dataset.fix_counts[NO_BOX] == 1
    assert len(dataset.xywh_px) == 2
    assert dataset.annotations_read == 3


def test_polygons_do_not_stand_in_for_boxes_of_another_convention(folder: Path):
    """They may be of another unit."""
    read(folder, edited(object_(0, bbox=None, segmentation=POLYGONS)))
    dataset = read_coco(folder / "set.json", boxes=BoxConvention("xyxy", "pixels"))
    assert dataset.fix_counts[NO_BOX] == 1


@pytest.mark.parametrize(("boxless", "severity"), [(1, "fixed"), (3, "fixed"), (4, "error")])
def test_more_than_a_tenth_without_a_box_is_no_single_mistake(tmp_path: Path, boxless, severity):
    values = random_boxes(0, 30)
    more = [{"bbox": None} if row < boxless else {} for row in range(30)]
    dataset = open_dataset(write_set(tmp_path, "coco", values, more=more), "train")
    findings = check_annotations({"train": dataset}, 10, Preprocessing())
    found = [each for each in findings if each.kind.startswith("no box")]
    assert [each.severity for each in found] == [severity] * boxless


TURNS = [*({"attributes": {key: 90}} for key in ROTATION_KEYS), {"rotation": 90}, {"angle": 90}]


@pytest.mark.parametrize("change", TURNS, ids=str)
def test_a_fixed_copy_of_a_turned_box_is_not_turned_again(folder: Path, change: dict[str, Any]):
    dataset = read(folder, edited(object_(0, bbox=[10, 5, 20, 10], **change)))
    assert dataset.xywh_px[0].round(6).tolist() == [15, 0, 10, 20]
    fixed, _ = fix_coco(json.loads((folder / "set.json").read_text()), dataset)
    (folder / "fixed.json").write_text(json.dumps(fixed))
    again = read_coco(folder / "fixed.json")
    assert again.fixes == ()
    assert again.xywh_px.tolist() == dataset.xywh_px.tolist()


@pytest.mark.parametrize("rotation", ["left", True, [90], {}, float("nan"), float("inf"), 10**400])
def test_a_rotation_that_is_no_number_is_said(folder: Path, rotation: Any):
    box, (fix,) = found(read(folder, edited(turned(rotation))))
    assert (box, fix[3]) == (BOX, NO_NUMBER)


@pytest.mark.parametrize("attributes", [[], "rotation", 7, {}, {"other": 90}, [{"rotation": 90}]])
def test_other_attributes_say_nothing(folder: Path, attributes: Any):
    assert found(read(folder, edited(object_(0, attributes=attributes)))) == (BOX, [])


def test_a_box_that_is_already_around_its_polygon_stays(folder: Path):
    """Some tools write it beside the rotation; a polygon that repeats the box says nothing."""
    diamond = [[21, 4, 36, 14, 21, 24, 6, 14]]
    dataset = read(folder, edited(turned(45.0, segmentation=diamond)))
    assert found(dataset) == (BOX, [])
    rectangle = [[6, 4, 36, 4, 36, 24, 6, 24]]
    dataset = read(folder, edited(turned(90.0, segmentation=rectangle)))
    assert found(dataset)[0] == [11, -1, 20, 30]


def test_boxes_and_polygons_of_fractions_become_pixels(folder: Path):
    tree = edited(
        object_(0, bbox=[0.1, 0.1, 0.5, 0.5], segmentation=[[0.1, 0.1, 0.6, 0.1, 0.1, 0.6]])
    )
    tree["annotations"] = [tree["annotations"][0] | {"area": 0.125}]
    read(folder, tree)
    dataset = read_coco(folder / "set.json", boxes=BoxConvention("xywh", "relative"))
    assert dataset.xywh_px.tolist() == [[6, 4, 30, 20]]
    assert dataset.area_px.tolist() == [0.125 * 60 * 40]
    assert dataset.segmentations is not None
    np.testing.assert_allclose(dataset.segmentations.rings(0)[0], [[6, 4], [36, 4], [6, 24]])


def test_polygons_in_pixels_stay_beside_boxes_of_fractions(folder: Path):
    ring = [6, 4, 36, 4, 6, 24]
    tree = edited(object_(0, bbox=[0.1, 0.1, 0.5, 0.5], segmentation=[ring], area=300))
    tree["annotations"] = tree["annotations"][:1]
    read(folder, tree)
    dataset = read_coco(folder / "set.json", boxes=BoxConvention("xywh", "relative"))
    assert dataset.segmentations is not None
    assert dataset.segmentations.rings(0)[0].ravel().tolist() == ring
    assert dataset.area_px.tolist() == [300]


def test_areas_of_corners_are_no_larger_than_their_boxes(folder: Path):
    """Areas are often computed by the same mistake; those of masks are smaller and stay."""
    tree = edited(object_(0, bbox=[6, 4, 36, 24], area=36 * 24))
    object_(1, bbox=[0, 0, 60, 40], area=77)(tree)
    read(folder, tree)
    dataset = read_coco(folder / "set.json", boxes=BoxConvention("xyxy", "pixels"))
    assert dataset.xywh_px[:2].tolist() == [[6, 4, 30, 20], [0, 0, 60, 40]]
    assert dataset.area_px[:2].tolist() == [600, 77]


def test_panoptic_boxes_have_conventions_too(tmp_path: Path):
    write_images(tmp_path)
    (tmp_path / "panoptic").mkdir()
    Image.new("RGB", (60, 40), (1, 0, 0)).save(tmp_path / "panoptic" / "of_a.png")
    tree = edited(lambda tree: None)
    segment = {"id": 1, "category_id": 3, "bbox": [6, 4, 36, 24], "area": 600, "iscrowd": 0}
    tree["annotations"] = [{"image_id": 10, "file_name": "of_a.png", "segments_info": [segment]}]
    (tmp_path / "panoptic.json").write_text(json.dumps(tree))
    dataset = read_panoptic(tmp_path / "panoptic.json", boxes=BoxConvention("xyxy", "pixels"))
    assert dataset.xywh_px.tolist() == [[6, 4, 30, 20]]


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": {"angle": 1.57}},
        {"attributes": {"occluded": False, "Angle": "-3.1"}},
        {"angle": 6},
    ],
    ids=str,
)
def test_angles_that_may_be_radians_are_refused(folder: Path, change: dict[str, Any]):
    with pytest.raises(DataError, match=r"'angle' may be in radians.*call it 'rotation'"):
        read(folder, edited(object_(0, **change)))


@pytest.mark.parametrize("angle", ["front", "", None, True, [90], 0, 360])
def test_other_angles_leave_the_box(folder: Path, angle: Any):
    dataset = read(folder, edited(object_(0, attributes={"angle": angle})))
    assert found(dataset) == (BOX, [])


def with_angles(key: str, angles: list[float], boxes: list[list[float]]) -> dict[str, Any]:
    tree = sound()
    tree["annotations"] = [
        annotation(i, 10, 3, box, attributes={key: angle})
        for i, (angle, box) in enumerate(zip(angles, boxes, strict=True))
    ]
    return tree


WIDE = [[0.0, float(i), 60.0, 10.0] for i in range(8)]
SMALL = [[20.0 + i, 15.0, 12.0, 6.0] for i in range(8)]
NOT_TURNS = {
    "boxes leave the image": ([30.0, 45.0, 60.0, 120.0] * 2, WIDE, "8 of 8 boxes would leave"),
    "right angles": ([90.0, 270.0] * 4, SMALL, "all 8 that would are multiples of 90"),
    "right angles among others": ([0.0, 90.0, 180.0, 270.0] * 3, [*SMALL, *SMALL[:4]], "all 6"),
}


@pytest.mark.parametrize("case", NOT_TURNS)
def test_angles_that_probably_turn_nothing_are_asked_about(folder: Path, case: str):
    """An angle may be that of a view. Judged over the whole file."""
    angles, boxes, evidence = NOT_TURNS[case]
    with pytest.raises(DataError, match=f"'angle' probably does not turn boxes: {evidence}"):
        read(folder, with_angles("angle", angles, boxes))
    turned = read(folder, with_angles("rotation", angles, boxes))
    expected = turned_xywh_px(np.array(boxes), np.array(angles))
    assert turned.xywh_px == pytest.approx(expected, abs=1e-6)
    unturned = read(folder, with_angles("view", angles, boxes))
    assert unturned.xywh_px.tolist() == boxes


@pytest.mark.parametrize("key", ["angle", "rotation"])
def test_angles_that_turn_boxes_inside_their_images_are_read(folder: Path, key: str):
    angles = [30.0, 45.0, 90.0, -20.0] * 2
    turned = read(folder, with_angles(key, angles, SMALL))
    expected = turned_xywh_px(np.array(SMALL), np.array(angles))
    assert turned.xywh_px == pytest.approx(expected, abs=1e-6)


def test_few_angles_prove_nothing(folder: Path):
    dataset = read(folder, with_angles("angle", [90.0] * 4, SMALL[:4]))
    assert sum(dataset.fix_counts.values()) == 4
