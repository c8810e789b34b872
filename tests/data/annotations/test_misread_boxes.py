"""Boxes of another convention are recognized over the whole file, and sound ones never are."""

import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.data.annotations.box_convention import XYWH_PX, BoxConvention, ConventionDoubt, Layout
from setmatch.data.annotations.boxes_in_pixels import to_xywh_px
from setmatch.data.annotations.cleaning import (
    CORNERS,
    FRACTIONS,
    NO_LINE,
    AnnotationTable,
    without_other_conventions,
)
from setmatch.data.annotations.misread_boxes import WrittenBoxes, corners_among, doubt_convention
from setmatch.data.audit.checks.checks import check_annotations
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from setmatch.structures.metadata import Preprocessing
from written_boxes import CONVENTIONS, FORMATS, random_boxes, write_set, written

HEIGHT, WIDTH = 72, 96
SIZE = Preprocessing(160, 240)


def doubt(
    values: np.ndarray,
    read_as: BoxConvention,
    sizes_px: np.ndarray | None = None,
    area_px: np.ndarray | None = None,
    hulls: np.ndarray | None = None,
) -> ConventionDoubt | None:
    if sizes_px is None:
        sizes_px = np.tile(np.array([[HEIGHT, WIDTH]], dtype=np.int32), (len(values), 1))
    if area_px is None:
        area_px = to_xywh_px(read_as, values, sizes_px)[:, 2:].prod(axis=1)
    return doubt_convention(WrittenBoxes(values, read_as), sizes_px, area_px, str, hulls)


YXYX_RELATIVE = BoxConvention("yxyx", "relative")
MISREAD = [
    (format, meant) for format, own in FORMATS.items() for meant in CONVENTIONS if meant != own
]


@pytest.mark.crossed
@pytest.mark.parametrize("count", [40, 600])
@pytest.mark.parametrize(
    ("format", "meant"), MISREAD, ids=[f"{f} with {t.words}" for f, t in MISREAD]
)
def test_the_convention_of_misread_boxes_is_named(format: str, meant: BoxConvention, count: int):
    for seed in range(5):
        xywh_px = random_boxes(seed, count, HEIGHT, WIDTH)
        sizes_px = np.tile(np.array([[HEIGHT, WIDTH]], dtype=np.int32), (count, 1))
        found = doubt(written(xywh_px, sizes_px, meant), FORMATS[format])
        assert found is not None
        if meant == YXYX_RELATIVE:  # no number distinguishes it from the more usual corners
            assert FORMATS[format].changed(found.likely).words == "xyxy,relative"
            assert FORMATS[format].changed(found.y_first) == meant
            assert f"with --boxes {found.y_first} if y is before x" in found.advice
            continue
        assert FORMATS[format].changed(found.likely) == meant
        assert meant.changed(found.present) == FORMATS[format]


@pytest.mark.parametrize(
    ("format", "meant"), MISREAD, ids=[f"{f} with {t.words}" for f, t in MISREAD]
)
def test_misread_boxes_are_refused_and_read_as_the_refusal_says(
    tmp_path: Path, format: str, meant: BoxConvention
):
    xywh_px = random_boxes(1, 40, HEIGHT, WIDTH)
    sizes_px = np.tile(np.array([[HEIGHT, WIDTH]], dtype=np.int32), (40, 1))
    root = write_set(tmp_path, format, written(xywh_px, sizes_px, meant))
    with pytest.raises(DataError, match="probably") as caught:
        open_dataset(root, "train")
    offered = re.findall(r"--boxes (\S+?)(?:,? |$)", str(caught.value))
    words = next(each for each in offered if FORMATS[format].changed(each) == meant)
    assert words == offered[0 if meant != YXYX_RELATIVE else 2]
    held_out = [open_dataset(root, split, boxes=words) for split in ("train", "val")]
    read = np.concatenate([each.xywh_px for each in held_out])
    np.testing.assert_allclose(read[np.lexsort(read.T)], xywh_px[np.lexsort(xywh_px.T)], atol=1e-6)
    area_px = np.concatenate([each.area_px for each in held_out])
    np.testing.assert_allclose(area_px, read[:, 2:].prod(axis=1), rtol=1e-6)


@pytest.mark.crossed
@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("format", FORMATS)
def test_boxes_in_percent_are_read(tmp_path: Path, format: str, layout: Layout):
    """YOLO's are recognized; in the other formats they may be boxes in pixels."""
    meant = BoxConvention(layout, "percent")
    xywh_px = random_boxes(2, 40, 480, 640)
    sizes_px = np.tile(np.array([[480, 640]], dtype=np.int32), (40, 1))
    root = write_set(tmp_path, format, written(xywh_px, sizes_px, meant), 480, 640)
    if format == "yolo":
        with pytest.raises(DataError, match=r"probably .* in percent of the image") as caught:
            open_dataset(root, "train")
        words = str(caught.value).partition("--boxes ")[2].split(", or with")[0]
        if layout != "yxyx":
            assert FORMATS[format].changed(words) == meant
    held_out = [open_dataset(root, split, boxes=meant.words) for split in ("train", "val")]
    read = np.concatenate([each.xywh_px for each in held_out])
    np.testing.assert_allclose(read[np.lexsort(read.T)], xywh_px[np.lexsort(xywh_px.T)], atol=1e-6)
    area_px = np.concatenate([each.area_px for each in held_out])
    np.testing.assert_allclose(area_px, read[:, 2:].prod(axis=1), rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (90, 640), (150, 150)])
def test_pixels_in_a_label_file_are_not_taken_for_percent(height: int, width: int):
    """Even if all boxes are small and at the left top."""
    for sides in ((0.1, 0.5), (0.01, 0.05)):
        xywh_px = random_boxes(3, 60, min(height, 99), min(width, 60), sides)
        sizes_px = np.tile(np.array([[height, width]], dtype=np.int32), (60, 1))
        found = doubt(written(xywh_px, sizes_px, XYWH_PX), FORMATS["yolo"], sizes_px)
        assert found is not None
        assert FORMATS["yolo"].changed(found.likely).unit == "pixels"


@st.composite
def sound_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Boxes inside of their images: few or many, tiny or full, anywhere or all in one place."""
    count = draw(st.sampled_from([1, 2, 3, 5, 9, 40, 300]))
    height, width = draw(st.integers(4, 3000)), draw(st.integers(4, 3000))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    least = draw(st.sampled_from([0.002, 0.02, 0.2, 0.7, 0.999, 1.0]))
    most = draw(st.sampled_from([0.005, 0.05, 0.5, 1.0]))
    extent = random.uniform(min(least, most), max(least, most), (count, 2))
    extent = np.maximum(extent * (width, height), 2)
    place = np.array(draw(st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])] * 2)))
    spread = draw(st.sampled_from([0.0, 0.1, 1.0]))
    at = np.clip(place + spread * random.uniform(-1, 1, (count, 2)), 0, 1)
    boxes = np.concatenate([at * ((width, height) - extent), extent], axis=1)
    change = draw(st.sampled_from(["round", -1, -0.5, 0, 0.5, 1]))  # such as counting from 1
    if change == "round":
        boxes = np.round(boxes)
    else:
        boxes[:, :2] += change
    return boxes, np.tile(np.array([[height, width]], dtype=np.int32), (count, 1))


@given(sound_boxes(), st.sampled_from(list(FORMATS)))
def test_sound_boxes_are_never_doubted(boxes: tuple[np.ndarray, np.ndarray], format: str):
    xywh_px, sizes_px = boxes
    assert doubt(written(xywh_px, sizes_px, FORMATS[format]), FORMATS[format], sizes_px) is None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.09, 0.5])
def test_boxes_over_all_edges_are_of_no_other_convention(format: str, share: float):
    """Careless boxes leave the image on every side, which no other reading explains."""
    for seed in range(20):
        xywh_px = random_boxes(seed, 200, HEIGHT, WIDTH)
        careless = xywh_px[: round(share * 200)]
        careless[:, :2] -= 0.2 * careless[:, 2:]
        careless[:, 2:] *= 1.4
        sizes_px = np.tile(np.array([[HEIGHT, WIDTH]], dtype=np.int32), (200, 1))
        assert doubt(written(xywh_px, sizes_px, FORMATS[format]), FORMATS[format]) is None


def test_one_box_is_shown_both_ways():
    boxes = np.array([[5.0, 16, 31, 43], [51, 19, 81, 48]]).repeat(5, axis=0)
    found = doubt(boxes, FORMATS["coco"])
    assert found is not None
    assert found.example == (
        "5: [51, 19, 81, 48] is x 51 to 132, y 19 to 67 of 96×72 pixels as it is read now, "
        "and x 51 to 81, y 19 to 48 if so"
    )
    assert found.advice == "read them with --boxes xyxy, or with --boxes xywh if not so"
    assert "5 as xywh,pixels, 0 as xyxy,pixels" in found.evidence


def test_areas_tell_corners_that_stay_inside_the_image():
    """All at the left top, no box leaves the image in either reading."""
    xywh_px = random_boxes(0, 30, 36, 48)
    corners = written(xywh_px, np.full((30, 2), 500, np.int32), BoxConvention("xyxy", "pixels"))
    assert doubt(corners, FORMATS["coco"]) is None
    found = doubt(corners, FORMATS["coco"], area_px=xywh_px[:, 2:].prod(axis=1))
    assert found is not None
    assert found.likely == "xyxy"


LAYOUTS = get_args(Layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("format", FORMATS)
def test_thousandths_of_small_images_are_named(format: str, layout: Layout):
    """As language models write boxes: 0 to 1000, whatever the image."""
    meant = BoxConvention(layout, "thousandths")
    for seed, count in ((0, 40), (1, 300)):
        sizes_px = np.tile(np.array([[480, 640]], dtype=np.int32), (count, 1))
        values = written(random_boxes(seed, count, 480, 640), sizes_px, meant)
        found = doubt(values, FORMATS[format], sizes_px)
        assert found is not None
        if layout == "yxyx":
            assert FORMATS[format].changed(found.y_first) == meant
            continue
        assert FORMATS[format].changed(found.likely) == meant


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0, 0.04, 1])
def test_polygons_tell_the_layout_of_boxes_that_all_fit(layout: Layout, share: float):
    """All at the left top. Some objects have no polygon, and some boxes are careless."""
    own = FORMATS["coco"]
    meant = BoxConvention(layout, "pixels")
    xywh_px = random_boxes(0, 50, 36, 48) + 40
    sizes_px = np.tile(np.array([[500, 500]], dtype=np.int32), (50, 1))
    hulls = written(xywh_px, sizes_px, BoxConvention("xyxy", "pixels"))
    hulls[:10] = np.nan
    values = written(xywh_px, sizes_px, meant)
    values[10 : 10 + round(share * 40)] += 7
    found = doubt(values, own, sizes_px, np.ones(50), hulls)
    if meant == own or share == 1:
        assert found is None
    else:
        assert found is not None
        assert own.changed(found.likely) == meant


@pytest.mark.parametrize("format", ["coco", "voc"])
@pytest.mark.parametrize("fractions", [3, 10, 20])
def test_fractions_among_pixels_are_left_out_and_said(tmp_path: Path, format: str, fractions: int):
    """Two tools wrote the file; --boxes keeps them."""
    xywh_px = random_boxes(5, 40, HEIGHT, WIDTH)
    values = written(xywh_px, np.tile([[HEIGHT, WIDTH]], (40, 1)), FORMATS[format])
    values[:fractions] /= np.tile([WIDTH, HEIGHT], 2)
    root = write_set(tmp_path, format, values)
    splits = [open_dataset(root, split) for split in ("train", "val")]
    read = np.concatenate([each.xywh_px for each in splits])
    sound = xywh_px[fractions:]
    np.testing.assert_allclose(read[np.lexsort(read.T)], sound[np.lexsort(sound.T)], atol=1e-6)
    assert splits[0].fix_counts[FRACTIONS] == fractions
    is_error = any(f.severity == "error" for f in check_annotations({"train": splits[0]}, 99, SIZE))
    assert is_error == (fractions > 4)
    kept = [open_dataset(root, split, boxes="pixels") for split in ("train", "val")]
    assert sum(len(each.xywh_px) for each in kept) == 40


EVIDENCE = ("areas", "polygons", "both")


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("corners", [0, 2, 3, 4, 12, 36])
@pytest.mark.parametrize("image_px", [(HEIGHT, WIDTH), (2000, 2000)])
def test_corners_among_others_are_left_out_and_said(
    corners: int, evidence: str, image_px: tuple[int, int]
):
    """Two tools wrote the file; areas or polygons tell which box is of which."""
    xywh_px = random_boxes(7, 40, HEIGHT, WIDTH) + np.array([3, 3, 2, 2])
    values = xywh_px.copy()
    values[:corners, 2:] += values[:corners, :2]
    area_px = xywh_px[:, 2:].prod(axis=1)
    rings = np.random.default_rng(3).uniform(0.3, 0.7, 40)  # of their boxes
    hulls = np.concatenate([xywh_px[:, :2], xywh_px[:, :2] + xywh_px[:, 2:]], axis=1)
    rows = AnnotationTable(
        ids=np.arange(40),
        image=np.zeros(40, dtype=np.int64),
        class_index=np.zeros(40, dtype=np.int64),
        xywh_px=values,
        area_px=area_px * rings if evidence == "polygons" else area_px,
        crowd=np.zeros(40, dtype=bool),
        line=np.full(40, NO_LINE),
        origin=np.arange(40),
    )
    sizes_px = np.array([image_px], dtype=np.int32)
    for is_certain in (False, True):
        kept, fixes = without_other_conventions(
            WrittenBoxes(values, XYWH_PX, is_certain),
            rows,
            ["a.png"],
            sizes_px,
            None if evidence == "areas" else hulls,
        )
        left_out = corners if corners >= 3 and not is_certain else 0
        assert kept.ids.tolist() == list(range(left_out, 40))
        assert [fix.description for fix in fixes] == [CORNERS] * left_out


def test_areas_of_polygons_say_nothing_about_single_boxes():
    """Some are by chance those of corners."""
    random = np.random.default_rng(1)
    xywh_px = random_boxes(7, 4000, HEIGHT, WIDTH)
    area_px = xywh_px[:, 2:].prod(axis=1) * random.uniform(0.1, 1, 4000)
    sizes_px = np.tile(np.array([[HEIGHT, WIDTH]], dtype=np.int32), (4000, 1))
    found = corners_among(WrittenBoxes(xywh_px, XYWH_PX), sizes_px, area_px, None)
    assert not found.any()


@pytest.mark.parametrize("corners", [3, 12])
def test_a_file_with_corners_among_others_trains_on_none_of_them(tmp_path: Path, corners: int):
    """More than a tenth is an error of the audit."""
    xywh_px = random_boxes(5, 40, HEIGHT, WIDTH)
    root = write_set(tmp_path, "coco", xywh_px)
    for file in root.rglob("*.json"):
        tree = json.loads(file.read_text())
        for annotation in tree["annotations"]:
            x, y, width, height = annotation["bbox"]
            annotation["area"] = width * height
        for annotation in tree["annotations"][:corners]:
            x, y, width, height = annotation["bbox"]
            annotation["bbox"] = [x, y, x + width, y + height]
        file.write_text(json.dumps(tree))
    dataset = open_dataset(root, "train")
    assert dataset.fix_counts[CORNERS] == corners
    found = check_annotations({"train": dataset}, 99, SIZE)
    assert any(each.severity == "error" for each in found) == (corners > 4)


def test_a_few_round_boxes_of_a_pixel_are_kept(tmp_path: Path):
    values = random_boxes(5, 40, HEIGHT, WIDTH)
    values[:9] = [[0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0.5, 0.5, 0.5]] * 3
    dataset = open_dataset(write_set(tmp_path, "coco", values), "train")
    assert FRACTIONS not in dataset.fix_counts


def test_what_the_user_says_is_not_doubted():
    corners = np.array([[51.0, 19, 81, 48]] * 40)
    sizes_px = np.tile(np.array([[HEIGHT, WIDTH]], dtype=np.int32), (40, 1))
    boxes = WrittenBoxes(corners, FORMATS["coco"], is_certain=True)
    assert doubt_convention(boxes, sizes_px, np.ones(40), str) is None


@given(
    st.lists(st.lists(st.floats(), min_size=4, max_size=4), max_size=30),
    st.sampled_from(CONVENTIONS),
)
def test_any_numbers_are_checked(values: list[list[float]], read_as: BoxConvention):
    boxes = np.array(values, dtype=float).reshape(-1, 4)
    with np.errstate(all="ignore"):
        found = doubt(boxes, read_as)
    assert found is None or "\n" not in found.sentence("file")
