"""The meaning of YOLO lines with more than five numbers is decided for a whole split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.yolo.rows import LabelFile, Line, resolve_rows
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from thorough import usually
from written_boxes import random_boxes

HEIGHT, WIDTH = 72, 96
Rows = Sequence[Sequence[float]]


def write_rows(root: Path, rows: Rows, config: str | None = "names: [cat]\n") -> Path:
    """Write the rows as YOLO labels of one class, two in an image."""
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True)
    for start in range(0, len(rows), 2):
        name = root / "images" / "train" / f"{start:03}.png"
        Image.new("RGB", (WIDTH, HEIGHT)).save(name)
        lines = (" ".join(f"{value:.6g}" for value in (0, *row)) for row in rows[start : start + 2])
        (root / "labels" / "train" / f"{start:03}.txt").write_text("\n".join(lines))
    if config is not None:
        (root / "data.yaml").write_text(config + "train: images/train\nval: images/train\n")
    return root


def pose_rows(
    count: int, keypoints: int, visible: bool = False, seed: int = 0
) -> list[list[float]]:
    """Return boxes with keypoints somewhere in them, as fractions of the image."""
    random = np.random.default_rng(seed)
    rows = []
    for x, y, w, h in random_boxes(seed, count, 1, 1).tolist():
        points = (x, y) + random.uniform(0.05, 0.95, (keypoints, 2)) * (w, h)
        if visible:
            points = np.column_stack([points, random.integers(0, 3, keypoints)])
        rows.append([x + w / 2, y + h / 2, w, h, *points.ravel().tolist()])
    return rows


def boxes_px(rows: Rows) -> np.ndarray:
    center, extent = np.array([row[:2] for row in rows]), np.array([row[2:4] for row in rows])
    return np.concatenate([center - extent / 2, extent], axis=1) * np.tile([WIDTH, HEIGHT], 2)


def assert_boxes(dataset: DetectionDataset, rows: Rows, done: str) -> None:
    np.testing.assert_allclose(dataset.xywh_px, boxes_px(rows), atol=1e-3)
    assert dataset.segmentations is None
    assert [fix.description for fix in dataset.fixes] == [done]
    assert dataset.fixes[0].value.startswith(f"{len(rows)} lines")


KEYPOINTS = "keypoints after the box: left out"


@pytest.mark.parametrize(
    ("keypoints", "numbers"), [(1, 2), (1, 3), (4, 3), (5, 2), (12, 2), (17, 3)]
)
def test_kpt_shape_says_that_a_box_and_keypoints_follow(tmp_path: Path, keypoints, numbers):
    rows = pose_rows(12, keypoints, visible=numbers == 3)
    config = f"names: [cat]\nkpt_shape: [{keypoints}, {numbers}]\n"
    dataset = open_dataset(write_rows(tmp_path, rows, config), "train")
    assert_boxes(dataset, rows, KEYPOINTS)


def test_fewer_keypoints_than_kpt_shape_are_read_and_parts_of_one_refused(tmp_path: Path):
    rows = pose_rows(4, 3, visible=True)
    config = "names: [cat]\nkpt_shape: [17, 3]\n"
    assert_boxes(open_dataset(write_rows(tmp_path / "a", rows, config), "train"), rows, KEYPOINTS)
    rows[3].pop()
    with pytest.raises(DataError, match=r"2\.txt:2: .* has 13 numbers; with kpt_shape: \[17, 3\]"):
        open_dataset(write_rows(tmp_path / "b", rows, config), "train")


@pytest.mark.parametrize(
    "shape", ["17", "[17]", "[17, 3, 1]", "[0, 2]", "[5, 4]", "['5', 2]", "{}"]
)
def test_a_wrong_kpt_shape_is_refused(tmp_path: Path, shape: str):
    root = write_rows(tmp_path, pose_rows(2, 5), f"names: [cat]\nkpt_shape: {shape}\n")
    with pytest.raises(DataError, match=r"'kpt_shape' is .*; it should be the number of keypoints"):
        open_dataset(root, "train")


@pytest.mark.parametrize(
    ("keypoints", "visible", "question"),
    [
        *(
            (n, False, rf"is it a box and {n} keypoints.*polygon of {n + 2} points\?")
            for n in (2, 5)
        ),
        (17, False, r"kpt_shape: \[17, 2\].*--boxes keypoints.*--boxes polygons"),
        *(
            (n, True, rf"probably a box and {n} keypoints.*kpt_shape: \[{n}, 3\]")
            for n in (1, 4, 17)
        ),
    ],
)
def test_keypoints_without_kpt_shape_are_asked_about(tmp_path: Path, keypoints, visible, question):
    """With a data.yaml or without; --boxes decides."""
    rows = pose_rows(12, keypoints, visible)
    for config in ("names: [cat]\n", None):
        root = write_rows(tmp_path / str(config), rows, config)
        with pytest.raises(DataError, match=rf"0\.txt:1: .*{question}"):
            open_dataset(root, "train")
    dataset = open_dataset(tmp_path / "names: [cat]\n", "train", boxes="keypoints")
    assert_boxes(dataset, rows, KEYPOINTS)
    if not visible:
        dataset = open_dataset(tmp_path / "names: [cat]\n", "train", boxes="polygons")
        assert dataset.segmentations is not None
        assert dataset.segmentations.rings(0)[0].shape == (keypoints + 2, 2)


def resolved(rows: Rows, sides: tuple[int, int] = (HEIGHT, WIDTH)) -> tuple[list, list[LabelFile]]:
    lines = tuple(Line(number, 0, list(row), "...") for number, row in enumerate(rows, start=1))
    fixes: list = []
    return fixes, resolve_rows([LabelFile(Path("a.txt"), lines, sides)], None, None, fixes)


@pytest.mark.parametrize("keypoints", usually([1, 2, 3, 5, 8, 17], 1, 2, 5))
def test_keypoints_are_asked_about_wherever_they_are(keypoints: int):
    for seed in range(30):
        with pytest.raises(DataError, match="is it a box and"):
            resolved(pose_rows(20, keypoints, seed=seed))


def test_keypoints_on_a_line_through_the_center_are_asked_about():
    """Drawn as a polygon, their edges only touch."""
    rows = []
    for x, y, w, h in random_boxes(0, 8, 1, 1).tolist():
        steps = np.linspace(0.1, 0.9, 5)[:, None]
        points = np.round((x, y) + steps * (w, h), 6)
        rows.append([x + w / 2, y + h / 2, w, h, *points.ravel().tolist()])
    with pytest.raises(DataError, match="is it a box and 5 keypoints"):
        resolved(rows)


def test_keypoints_that_are_not_annotated_lie_at_zero():
    rows = pose_rows(20, 5)
    for row in rows[::2]:
        row[4:6] = [0.0, 0.0]
    with pytest.raises(DataError, match="is it a box and 5 keypoints"):
        resolved(rows)


@st.composite
def simple_polygons(draw: st.DrawFn) -> list[list[float]]:
    """Polygons of as many points each: convex or not, small or large, anywhere or at one place."""
    count, points = draw(st.sampled_from([1, 2, 5, 30])), draw(st.sampled_from([3, 4, 5, 8, 40]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = draw(st.sampled_from([0.03, 0.2, 0.9]))
    reach = draw(st.sampled_from([0.3, 0.6, 1.0]))  # 0.3: all at the left top
    least_radius = draw(st.sampled_from([0.5, 1.0]))
    rows = []
    for _ in range(count):
        # Not exactly even, but without a gap of more than half a turn: no needles.
        angles = 2 * np.pi * (np.arange(points) + random.uniform(-0.3, 0.3, points)) / points
        radius = random.uniform(least_radius, 1, points)
        shape = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
        shape = np.roll(shape, random.integers(points), axis=0)
        extent = random.uniform(0.3, 1, 2) * most * reach
        shape = (shape - shape.min(axis=0)) / np.ptp(shape, axis=0) * extent
        rows.append((shape + random.uniform(0, 1, 2) * (reach - extent)).ravel().tolist())
    return rows


@given(simple_polygons())
def test_polygons_stay_polygons(rows: list[list[float]]):
    """Few or many, wherever they are: no question, and no box of them."""
    _, (file,) = resolved(rows)
    assert [line.values for line in file.lines or ()] == rows


def test_lines_of_different_lengths_are_polygons():
    rows = [*pose_rows(5, 5), [0.1, 0.1, 0.2, 0.1, 0.2, 0.2]]
    assert [len(line.values) for line in resolved(rows)[1][0].lines or ()] == [14] * 5 + [6]


COLUMNS = {
    "confidence": ([[0.91], [1.0], [0.0], [0.5]], "confidence after the box: left out"),
    "track": ([[1], [2], [3], [77]], "track id after the box: left out"),
    "confidence and track": (
        [[0.9, 1], [0.8, 2], [0.7, 3], [0.6, 12345]],
        "confidence and track id after the box: left out",
    ),
    "one track": (
        [[0.9, 1], [0.8, 1], [0.7, 1], [0.6, 1]],
        "confidence and track id after the box: left out",
    ),
    "track and confidence": (
        [[1, 0.9], [2, 0.8], [3, 0.7], [40, 0.6]],
        "confidence and track id after the box: left out",
    ),
}


@pytest.mark.parametrize(("columns", "done"), COLUMNS.values(), ids=COLUMNS)
def test_columns_of_detections_are_left_out_and_named(tmp_path: Path, columns, done: str):
    rows = [[*row[:4], *more] for row, more in zip(pose_rows(4, 0), columns)]
    assert_boxes(open_dataset(write_rows(tmp_path, rows), "train"), rows, done)


@pytest.mark.parametrize("angles", [[45, 45, 90, 0], [0, 0, 30, 60], [90, 90, 90, 90]])
def test_whole_numbers_that_repeat_in_an_image_are_no_tracks(tmp_path: Path, angles: list[int]):
    """They may be angles in degrees, by which every box is turned."""
    rows = [[*row[:4], angle] for row, angle in zip(pose_rows(4, 0), angles, strict=True)]
    with pytest.raises(DataError, match=r"last a confidence or a track\? Remove it; an angle\?"):
        open_dataset(write_rows(tmp_path, rows), "train")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            [[0.9], [], [0.8], [0.7]],
            r"0\.txt:1: .* has 6 numbers; write 5.*is the last a confidence",
        ),
        ([[0.9], [-0.1], [0.8], [0.7]], "has 6 numbers"),
        ([[0.9], [1.5], [0.8], [0.7]], "has 6 numbers"),
        ([[0.9, 1, 2]] * 4, "has 8 numbers"),
    ],
)
def test_other_columns_are_refused(tmp_path: Path, more, message: str):
    rows = [[*row[:4], *each] for row, each in zip(pose_rows(4, 0), more)]
    with pytest.raises(DataError, match=message):
        open_dataset(write_rows(tmp_path, rows), "train")


def test_triangles_are_no_boxes_with_confidence_and_track():
    rows = [
        [0.1, 0.2, 0.4, 0.2, 0.3, 1.0],
        [0.6, 0.7, 0.9, 0.6, 0.7, 1.0],
        [0.5, 0, 0.7, 0, 0.6, 1],
    ]
    assert [line.values for line in resolved(rows)[1][0].lines or ()] == rows


def oriented(count: int, degrees: float) -> tuple[list[list[float]], np.ndarray]:
    """Return lines of four corners, as fractions, and the boxes around them in pixels."""
    random, angle = np.random.default_rng(0), np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rows, hulls = [], []
    for _ in range(count):
        half = random.uniform(4, 10, 2)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ turn.T
        corners += random.uniform(20, 50, 2)
        low, high = corners.min(axis=0), corners.max(axis=0)
        rows.append((corners / (WIDTH, HEIGHT)).round(6).ravel().tolist())
        hulls.append([*low, *(high - low)])
    return rows, np.array(hulls)


def test_oriented_boxes_are_read_as_the_boxes_around_them(tmp_path: Path):
    rows, hulls = oriented(6, 30)
    dataset = open_dataset(write_rows(tmp_path, rows), "train")
    np.testing.assert_allclose(dataset.xywh_px, hulls, atol=1e-3)
    assert [(fix.value, fix.description) for fix in dataset.fixes] == [
        ("6 lines", "oriented boxes of four corners: read as the boxes around them")
    ]
    upright, hulls = oriented(6, 0)
    dataset = open_dataset(write_rows(tmp_path / "upright", upright), "train")
    np.testing.assert_allclose(dataset.xywh_px, hulls, atol=1e-3)
    assert dataset.fixes == ()


def test_polygons_in_pixels_are_refused_and_read_with_boxes(tmp_path: Path):
    rows = [[10, 10, 40, 10, 40, 50], [20, 20, 60, 20, 60, 60, 20, 60]]
    root = write_rows(tmp_path, rows)
    with pytest.raises(DataError, match=r"0\.txt:1: 50 is not a fraction.*--boxes pixels"):
        open_dataset(root, "train")
    dataset = open_dataset(root, "train", boxes="pixels")
    assert dataset.xywh_px.tolist() == [[10, 10, 30, 40], [20, 20, 40, 40]]


@given(
    st.lists(
        st.integers(0, 12).flatmap(
            lambda size: st.lists(st.floats(), min_size=4 + size, max_size=4 + size)
        ),
        max_size=5,
    )
)
def test_any_numbers_are_resolved_or_refused(rows: list[list[float]]):
    try:
        with np.errstate(all="ignore"):
            _, (file,) = resolved(rows)
    except DataError:
        return
    assert all(len(line.values) % 2 == 0 and len(line.values) != 2 for line in file.lines or ())


def confidence_first(count: int, seed: int = 0) -> list[list[float]]:
    random = np.random.default_rng(seed)
    return [[random.uniform(0.3, 1), *row] for row in pose_rows(count, 0, seed=seed)]


@pytest.mark.parametrize("count", [4, 40, 300])
def test_a_confidence_before_the_box_is_asked_about(tmp_path: Path, count: int):
    """Read as the box, it would move every box in silence."""
    for seed in range(3):
        root = write_rows(tmp_path / str(seed), confidence_first(count, seed))
        with pytest.raises(DataError, match=r"000\.txt:1: .* second is probably a confidence"):
            open_dataset(root, "train")


@pytest.mark.parametrize("count", [1, 4, 40, 300])
def test_a_confidence_after_the_box_is_no_confidence_before_it(tmp_path: Path, count: int):
    random = np.random.default_rng(count)
    rows = [[*row, random.uniform(0, 1)] for row in pose_rows(count, 0, seed=count)]
    dataset = open_dataset(write_rows(tmp_path, rows), "train")
    assert_boxes(dataset, rows, "confidence after the box: left out")


@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (17, 3)])
@pytest.mark.parametrize("corners", [3, 5, 8])
def test_polygons_among_keypoints_are_refused(tmp_path: Path, shape, corners: int):
    """With kpt_shape, their first two points would be read as a box."""
    keypoints, numbers = shape
    rows = pose_rows(6, keypoints, visible=numbers == 3)
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    rows[4] = (0.5 + 0.3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).ravel().tolist()
    if len(rows[4]) == len(rows[0]):
        rows[4] += [0.5, 0.5] * 5
    root = write_rows(tmp_path, rows, f"names: [cat]\nkpt_shape: [{keypoints}, {numbers}]\n")
    wanted = rf"4\.txt:1: .* it should have 5, or {5 + keypoints * numbers}: a box"
    with pytest.raises(DataError, match=wanted):
        open_dataset(root, "train")


@pytest.mark.parametrize("keypoints", [2, 5])
@pytest.mark.parametrize("missing", ["all", "some"])
def test_keypoints_that_are_not_annotated_may_be_minus_one(
    tmp_path: Path, keypoints: int, missing: str
):
    """As of WIDER FACE. Read as polygons, all boxes came to the left top of their images."""
    rows = pose_rows(12, keypoints)
    for row in rows if missing == "all" else rows[::2]:
        row[4:] = [-1.0] * (2 * keypoints)
    root = write_rows(tmp_path / "asked", rows, "names: [cat]\n")
    with pytest.raises(DataError, match=f"is it a box and {keypoints} keypoints"):
        open_dataset(root, "train")
    config = f"names: [cat]\nkpt_shape: [{keypoints}, 2]\n"
    assert_boxes(
        open_dataset(write_rows(tmp_path / "said", rows, config), "train"), rows, KEYPOINTS
    )
