"""Write YOLO: data.yaml, and labels/{split}/ beside images/{split}/."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.writing import SplitToWrite, counted
from setmatch.data.image_io import size_for_annotations
from setmatch.errors import DataError

_CLOSE_PX = 0.5


def write_yolo(folder: Path, splits: Sequence[SplitToWrite]) -> list[str]:
    """Write the labels of all splits; an object with a polygon becomes a line with a polygon.

    Several polygons of one object are joined by lines without width. Where the polygon's hull is
    not the object's box, the box is written. Crowds have no line in YOLO. Returns in sentences what
    was not kept. Raises DataError where the splits differ in their classes.
    """
    names = splits[0].dataset.categories.names
    for split in splits:
        if split.dataset.categories.names != names:
            raise DataError(
                f"{split.dataset.source}: classes {split.dataset.categories.names} in split "
                f"{split.name!r}, {names} in {splits[0].name!r}; YOLO has one list for all"
            )
    crowds, boxes, turned = 0, 0, 0
    for split in splits:
        dataset = split.dataset
        crowds += int(dataset.crowd.sum())
        for image, file, rows in split:
            height, width = dataset.size_px(image)
            turned += not _same_way_up(dataset, image)
            lines = []
            for row in rows:
                if dataset.crowd[row]:
                    continue
                fractions, without_outline = _fractions(dataset, row, width, height)
                boxes += without_outline
                lines.append(
                    " ".join([str(dataset.class_indices[row]), *map(repr, fractions)]) + "\n"
                )
            path = (folder / "labels" / split.name / file).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")
    places = {split.name: f"images/{split.name}" for split in splits}
    # Without a "path" places are beside this file; others take "." for where they were started.
    tree = {**places, "nc": len(names), "names": dict(enumerate(names))}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return [
        *counted(crowds, "crowds", "left out, YOLO has none"),
        *counted(
            boxes, "objects", "written as boxes: their outline has another hull, or is no polygon"
        ),
        *counted(turned, "images", "annotated on the unturned file; YOLO will turn it (EXIF)"),
    ]


def _fractions(
    dataset: DetectionDataset, row: int, width: int, height: int
) -> tuple[list[float], bool]:
    """Return the numbers of a line, and whether an outline was left behind."""
    x, y, w, h = dataset.xywh_px[row].tolist()
    box = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    rings = [] if dataset.segmentations is None else dataset.segmentations.rings(row)
    if not rings:
        runs = dataset.segmentations is not None and bool(dataset.segmentations.run_lengths(row))
        return box, runs
    points = _joined(rings)
    low, high = points.min(axis=0), points.max(axis=0)
    hull = np.concatenate([low, high])
    if np.abs(hull - (x, y, x + w, y + h)).max() > _CLOSE_PX:
        return box, True
    return (points / (width, height)).ravel().tolist(), False


def _joined(rings: list[Float[np.ndarray, "_ 2"]]) -> Float[np.ndarray, "P 2"]:
    """Return rings as one: each is closed, and left and entered by the same way."""
    if len(rings) == 1:
        return rings[0].astype(np.float64)
    closed = [np.concatenate([ring, ring[:1]]) for ring in rings]
    back = [ring[:1] for ring in rings[-2::-1]]
    return np.concatenate([*closed, *back]).astype(np.float64)


def _same_way_up(dataset: DetectionDataset, image: int) -> bool:
    annotated_px = dataset.size_px(image)
    upright_px = size_for_annotations(dataset.path(image), annotated_px)
    if upright_px != annotated_px:
        return False
    try:
        stored_px = size_for_annotations(dataset.path(image), None)
    except DataError:
        return True  # nobody can read it either way
    return (stored_px[0] > stored_px[1]) == (annotated_px[0] > annotated_px[1])
