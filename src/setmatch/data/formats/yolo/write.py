"""Write YOLO: data.yaml, and labels/{split}/ beside images/{split}/."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.writing import SplitToWrite, counted, distinct_names
from setmatch.data.images.decoding import size_for_annotations
from setmatch.errors import DataError

_TOLERANCE_PX = 0.5  # by which a polygon's bounding box may differ from the object's box


def write_yolo(folder: Path, splits: Sequence[SplitToWrite]) -> list[str]:
    """Write all splits. An object with polygons becomes a polygon line, any other a box line.

    Several polygons of one object are joined by lines of zero width. If the polygons' bounding box
    is not the object's box, the box is written. Crowds are left out. Returns a sentence for each
    kind of thing that was lost. Raises DataError if the splits have different classes.
    """
    names = splits[0].dataset.categories.names
    for split in splits:
        if split.dataset.categories.names != names:
            raise DataError(
                f"{split.dataset.source}: classes {split.dataset.categories.names} in split "
                f"{split.name!r}, but {names} in {splits[0].name!r}; YOLO has one list for all"
            )
    crowds, boxes_only, turned = 0, 0, 0
    for split in splits:
        dataset = split.dataset
        files = distinct_names(dataset.file_names(), taken=set())
        split.place_images(folder / "images" / split.name, files)
        crowds += int(dataset.crowd.sum())
        for image, file in enumerate(files):
            height, width = dataset.size_px(image)
            turned += _is_turned(dataset, image)
            lines = []
            for row in dataset.rows(image):
                if dataset.crowd[row]:
                    continue
                fractions, polygon_lost = _fractions(dataset, row, width, height)
                boxes_only += polygon_lost
                words = [str(dataset.class_indices[row]), *map(repr, fractions)]
                lines.append(" ".join(words) + "\n")
            path = (folder / "labels" / split.name / file).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")
    places = {split.name: f"images/{split.name}" for split in splits}
    # No "path": paths are then relative to this file. Some tools would take "." for the working
    # directory.
    tree = {**places, "nc": len(names), "names": dict(enumerate(names))}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return [
        *counted(crowds, "crowds", "left out, YOLO has none"),
        *counted(
            boxes_only,
            "objects",
            "written as boxes: their segmentation has another bounding box, or is not a polygon",
        ),
        *counted(
            turned, "images", "annotated without their EXIF orientation, which YOLO tools apply"
        ),
    ]


def _fractions(
    dataset: DetectionDataset, row: int, width: int, height: int
) -> tuple[list[float], bool]:
    """Return the numbers of a line, and whether a segmentation was lost."""
    x, y, w, h = dataset.xywh_px[row].tolist()
    box = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    segmentations = dataset.segmentations
    rings = [] if segmentations is None else segmentations.rings(row)
    if not rings:
        return box, segmentations is not None and bool(segmentations.run_lengths(row))
    points = _joined(rings)
    xyxy = np.concatenate([points.min(axis=0), points.max(axis=0)])
    if np.abs(xyxy - (x, y, x + w, y + h)).max() > _TOLERANCE_PX:
        return box, True
    return (points / (width, height)).ravel().tolist(), False


def _joined(rings: list[Float[np.ndarray, "_ 2"]]) -> Float[np.ndarray, "P 2"]:
    """Return polygons as one: each is closed, and entered and left along the same line."""
    if len(rings) == 1:
        return rings[0].astype(np.float64)
    closed = [np.concatenate([ring, ring[:1]]) for ring in rings]
    back = [ring[:1] for ring in rings[-2::-1]]
    return np.concatenate([*closed, *back]).astype(np.float64)


def _is_turned(dataset: DetectionDataset, image: int) -> bool:
    """Return whether an image was annotated without the turn that its EXIF orientation asks for."""
    annotated_px = dataset.size_px(image)
    upright_px = size_for_annotations(dataset.path(image), annotated_px)
    if upright_px != annotated_px:
        return True
    try:
        stored_px = size_for_annotations(dataset.path(image), None)
    except DataError:
        return False  # the file cannot be read either way
    return (stored_px[0] > stored_px[1]) != (annotated_px[0] > annotated_px[1])
