"""The meaning of the numbers in YOLO lines, decided for a whole split.

Five numbers are a class and a box. More may be a polygon, a box and keypoints, a box with the
confidence and the track of a detection, or the corners of an oriented box. One line alone does not
tell: a box and three keypoints are as many numbers as a polygon of five points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from setmatch.data.annotations.box_convention import Rows
from setmatch.data.dataset import AnnotationFix
from setmatch.errors import DataError

_SAMPLE = 200  # lines whose polygons are looked at for crossing edges
_EDGE = 0.02  # of the image, by which a box may leave it and count as inside
_NEAR = 0.01  # of its size, by which a keypoint may leave its box
_TOUCHING = 2e-5  # edges so near, in fractions of the image, touch
_HINT = (
    "; is the last a confidence or a track? Remove it; an angle? Write the four corners of the box"
)
_CORNER_PX = 1.0  # by which the corners of an oriented box may be rounded


@dataclass(frozen=True)
class Line:
    """One line of a label file: class index, and all numbers that follow."""

    number: int
    class_index: int
    values: list[float]
    shown: str  # the line as an error message shows it

    def error(self, path: Path, problem: str) -> DataError:
        """Return an error that names this line."""
        return DataError(f"{path}:{self.number}: {self.shown} {problem}")


@dataclass(frozen=True)
class LabelFile:
    """The lines of a label file, None where there is no such file, and its image's size."""

    path: Path
    lines: tuple[Line, ...] | None
    size_px: tuple[int, int]

    def boxes_only(self) -> "LabelFile":
        """Return the file without what follows the boxes."""
        lines = self.lines and tuple(replace(line, values=line.values[:4]) for line in self.lines)
        return replace(self, lines=lines)


@dataclass(frozen=True)
class _Longer:
    """The lines of more than a box, all equally long: their numbers, and the first of them."""

    values: Float64[np.ndarray, "N K"]
    sizes_px: Float64[np.ndarray, "N 2"]  # width, height
    files: Int64[np.ndarray, " N"]  # the number of each line's file
    path: Path
    line: Line


@np.errstate(over="ignore", invalid="ignore")  # numbers that are not finite are refused later
def resolve_rows(
    files: Sequence[LabelFile],
    keypoints: tuple[int, int] | None,
    rows: Rows | None,
    fixes: list[AnnotationFix],
) -> list[LabelFile]:
    """Return the files with lines of a box (four numbers) or a polygon (six or more, even) alone.

    `keypoints` are how many there are and the numbers of each, as in a data.yaml; `rows` is what
    the user says that longer lines are. What is left out or recognized goes into `fixes`. Raises
    DataError for a line that is none of these, and where all lines may be boxes with keypoints as
    well as polygons.
    """
    longer = [(f.path, line) for f in files for line in f.lines or () if len(line.values) > 4]
    if not longer:
        return list(files)
    if rows == "keypoints" or (keypoints is not None and rows is None):
        if keypoints is not None:
            _require_keypoints(longer, keypoints)
        done = "keypoints after the box: left out"
        fixes.append(AnnotationFix.of_many(f"{len(longer)} lines", done))
        return [file.boxes_only() for file in files]
    alike = _alike(files)
    if rows is None and alike is not None:
        _refuse_confidence_first(alike)
        column = _columns_after_box(alike, len(longer) == sum(len(f.lines or ()) for f in files))
        if column:
            value = f"{len(longer)} lines of {alike.values.shape[1] + 1} numbers"
            fixes.append(AnnotationFix.of_many(value, f"{column} after the box: left out"))
            return [file.boxes_only() for file in files]
        _refuse_keypoints(alike)
        if _are_oriented_boxes(alike):
            done = "oriented boxes of four corners: read as the boxes around them"
            fixes.append(AnnotationFix.of_many(f"{len(longer)} lines", done))
    for path, line in longer:
        if len(line.values) < 6 or len(line.values) % 2:
            hint = _HINT if len(line.values) == 5 else ""
            raise line.error(
                path,
                f"has {len(line.values) + 1} numbers; write 5 for a box (class, x, y, width, "
                f"height), 7 or a larger odd number for a polygon (class, then x and y of each "
                f"point){hint}",
            )
    return list(files)


def _require_keypoints(longer: Sequence[tuple[Path, Line]], keypoints: tuple[int, int]) -> None:
    """Raise DataError for a line without the keypoints that a data.yaml announces.

    Other numbers of keypoints are accepted where they all lie in their box.
    """
    count, numbers = keypoints
    for path, line in longer:
        further = len(line.values) - 4
        if further == count * numbers or _contains_keypoints(line, numbers):
            continue
        raise line.error(
            path,
            f"has {len(line.values) + 1} numbers; with kpt_shape: [{count}, {numbers}] in the "
            f"data.yaml it should have 5, or {5 + count * numbers}: a box, and {numbers} for each "
            "keypoint",
        )


def _contains_keypoints(line: Line, numbers: int) -> bool:
    if (len(line.values) - 4) % numbers:
        return False
    values = np.array([line.values])
    keypoints = values[:, 4:].reshape(1, -1, numbers)[:, :, :2]
    return _all_contained(values[:, :4], keypoints)


def _alike(files: Sequence[LabelFile]) -> _Longer | None:
    """Return the lines of more than a box; None where they differ in length."""
    lines = [
        (number, line)
        for number, file in enumerate(files)
        for line in file.lines or ()
        if len(line.values) > 4
    ]
    if len({len(line.values) for _, line in lines}) > 1:
        return None
    values = np.array([line.values for _, line in lines])
    number = np.array([number for number, _ in lines])
    sizes_px = np.array([files[each].size_px[::-1] for each in number], dtype=np.float64)
    return _Longer(values, sizes_px, number, files[number[0]].path, lines[0][1])


def _columns_after_box(longer: _Longer, is_every_line: bool) -> str | None:
    """Return what the one or two numbers after each box are; None where they are something else.

    An image shows each track once: whole numbers that repeat in one file may be angles in degrees.
    """
    rest = longer.values[:, 4:]
    if not is_every_line or rest.shape[1] > 2 or not np.isfinite(rest).all():
        return None
    columns = rest.T
    is_score = [bool(((column >= 0) & (column <= 1)).all()) for column in columns]
    is_track = [bool(((column >= 0) & (column == np.round(column))).all()) for column in columns]
    if rest.shape[1] == 1:
        is_track_alone = is_track[0] and _are_distinct(columns[0], longer.files)
        return "confidence" if is_score[0] else "track id" if is_track_alone else None
    # Two numbers could also be the third point of a triangle, with a whole number for a coordinate.
    tracks = [score and track for score, track in zip(is_score, reversed(is_track), strict=True)]
    if not any(tracks) or not _in_image(longer.values[:, :4]).all():
        return None
    return "confidence and track id" if rest.max() > 1 or len(rest) >= 3 else None


def _refuse_confidence_first(longer: _Longer) -> None:
    """Raise DataError where lines of six numbers are boxes only without their second number.

    Some tools write the confidence before the box.
    """
    values = longer.values
    if values.shape[1] != 5 or not np.isfinite(values).all():
        return
    is_score = ((values[:, 0] >= 0) & (values[:, 0] <= 1)).all()
    before, after = _in_image(values[:, :4]), _in_image(values[:, 1:])
    if is_score and after.all() and 20 * (~before).sum() > len(before):
        raise longer.line.error(
            longer.path,
            f"has 6 numbers, of which the second is probably a confidence: {(~before).sum()} of "
            f"{len(before)} boxes leave their image if the last is, and none does if the second "
            "is; remove it from all lines",
        )


def _are_distinct(column: Float64[np.ndarray, " N"], files: Int64[np.ndarray, " N"]) -> bool:
    """Return whether no two lines of a file have the same number."""
    return len(np.unique(np.stack([files, column]), axis=1).T) == len(column)


def _refuse_keypoints(longer: _Longer) -> None:
    """Raise DataError where all lines may be boxes with keypoints."""
    numbers = longer.values.shape[1] - 4
    advice = "--boxes keypoints reads the boxes alone"
    if numbers % 3 == 0 and _have_visible_keypoints(longer.values):
        raise longer.line.error(
            longer.path,
            f"is probably a box and {numbers // 3} keypoints, like all lines of more than 5 "
            f"numbers; write kpt_shape: [{numbers // 3}, 3] into the data.yaml, or {advice}",
        )
    if numbers % 2 == 0 and _may_have_keypoints(longer.values):
        raise longer.line.error(
            longer.path,
            f"has {numbers + 5} numbers, like all lines of more than 5: is it a box and "
            f"{numbers // 2} keypoints, which all lie in the box, or a polygon of "
            f"{numbers // 2 + 2} points? Write kpt_shape: [{numbers // 2}, 2] into the data.yaml, "
            f"or say which: {advice}, --boxes polygons all points",
        )


def _have_visible_keypoints(values: Float64[np.ndarray, "N K"]) -> bool:
    """Return whether every third number after the boxes says, as 0, 1 or 2, what is visible."""
    is_visible = np.isin(values[:, 6::3], (0.0, 1.0, 2.0)).all()
    keypoints = values[:, 4:].reshape(len(values), -1, 3)[:, :, :2]
    return bool(is_visible and _all_contained(values[:, :4], keypoints))


def _may_have_keypoints(values: Float64[np.ndarray, "N K"]) -> bool:
    """Return whether lines are likelier boxes that contain keypoints than polygons.

    A polygon may pass for a box with keypoints by chance, above all a small one at the left top.
    But of boxes with keypoints that are drawn as polygons, most have edges that cross, or a second
    point (their width and height) far from all others; of true polygons hardly any.
    """
    count = (values.shape[1] - 4) // 2
    fewest = {1: 8, 2: 4, 3: 2, 4: 2}.get(count, 1)
    least = 0.5 if count > 2 else 0.6  # of the lines; a triangle cannot cross itself
    keypoints = values[:, 4:].reshape(len(values), -1, 2)
    if not np.isfinite(values).all():  # neither keypoints nor a polygon
        return False
    if len(values) < fewest or not _all_contained(values[:, :4], keypoints):
        return False
    if _are_absent(keypoints).any():  # no polygon has such points
        return True
    polygons = values[:_SAMPLE].reshape(-1, count + 2, 2)
    strange = [_is_far(polygon) or _crosses_itself(polygon) for polygon in polygons]
    return sum(strange) >= least * len(strange)


def _in_image(boxes: Float64[np.ndarray, "N 4"]) -> Bool[np.ndarray, " N"]:
    center, size = boxes[:, :2], boxes[:, 2:]
    low, high = center - size / 2, center + size / 2
    return np.asarray(((low >= -_EDGE) & (high <= 1 + _EDGE) & (size > 0)).all(axis=1))


def _all_contained(
    boxes: Float64[np.ndarray, "N 4"], keypoints: Float64[np.ndarray, "N M 2"]
) -> bool:
    """Return whether the boxes are in the image and, of 19 in 20, all keypoints in their box.

    A keypoint at 0, 0 is one that is not annotated, and so is one at -1, -1, as of WIDER FACE.
    """
    center, size = boxes[:, None, :2], boxes[:, None, 2:]
    inside = (np.abs(keypoints - center) <= size * (0.5 + _NEAR)).all(axis=2)
    absent = (keypoints == 0).all(axis=2) | _are_absent(keypoints)
    contained = (inside | absent).all(axis=1) & _in_image(boxes)
    return bool(20 * (~contained).sum() <= len(boxes) - 1)


def _are_absent(keypoints: Float64[np.ndarray, "N M 2"]) -> Bool[np.ndarray, "N M"]:
    return np.asarray((keypoints == -1).all(axis=2))


def _is_far(polygon: Float64[np.ndarray, "P 2"]) -> bool:
    """Return whether the second point is farther from the others than these are apart."""
    others = np.delete(polygon, 1, axis=0)
    low, high = others.min(axis=0), others.max(axis=0)
    gap = np.maximum(np.maximum(low - polygon[1], polygon[1] - high), 0)
    return bool(np.hypot(*gap) > np.hypot(*(high - low)))


def _crosses_itself(polygon: Float64[np.ndarray, "P 2"]) -> bool:
    """Return whether two edges of a polygon cross or touch that are not neighbors."""
    new = np.abs(polygon - np.roll(polygon, 1, axis=0)).max(axis=1) > _TOUCHING
    start = polygon[new]
    count = len(start)
    if count < 4:
        return False
    end = np.roll(start, -1, axis=0)
    one, other = np.triu_indices(count, 2)
    apart = (one > 0) | (other < count - 1)  # the last edge is a neighbor of the first
    one, other = one[apart], other[apart]

    def side(
        a: Float64[np.ndarray, "E 2"],
        b: Float64[np.ndarray, "E 2"],
        point: Float64[np.ndarray, "E 2"],
    ) -> Float64[np.ndarray, " E"]:
        edge, toward = b - a, point - a
        area = edge[:, 0] * toward[:, 1] - edge[:, 1] * toward[:, 0]
        return np.where(np.abs(area) <= _TOUCHING * np.hypot(*edge.T), 0.0, np.sign(area))

    a, b, c, d = start[one], end[one], start[other], end[other]
    separates = (side(a, b, c) * side(a, b, d) <= 0) & (side(c, d, a) * side(c, d, b) <= 0)
    # Edges on one line separate nothing; they touch where the boxes around them do.
    low = np.maximum(np.minimum(a, b), np.minimum(c, d)) - _TOUCHING
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    return bool((separates & (low <= high).all(axis=1)).any())


def _are_oriented_boxes(longer: _Longer) -> bool:
    """Return whether all lines are four corners of rectangles, of which one at least is turned."""
    if longer.values.shape[1] != 8 or not np.isfinite(longer.values).all():
        return False
    corners = longer.values.reshape(-1, 4, 2) * longer.sizes_px[:, None]
    across, other = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    skew = np.abs(corners[:, 0] + corners[:, 2] - corners[:, 1] - corners[:, 3]).max(axis=1)
    lengths = np.hypot(*across.T), np.hypot(*other.T)
    tolerance_px = np.maximum(_CORNER_PX, _NEAR * lengths[0])
    is_rectangle = (skew <= 2 * tolerance_px) & (np.abs(lengths[0] - lengths[1]) <= tolerance_px)
    is_turned = np.abs(corners[:, 1] - corners[:, 0]).min(axis=1) > 2 * tolerance_px
    return bool(is_rectangle.all() and is_turned.any())
