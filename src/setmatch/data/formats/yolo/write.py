"""Write YOLO: data.yaml, and labels/{split}/ beside images/{split}/."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float

from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.missing_images import OTHER_SHAPE, drop_missing
from setmatch.data.formats.writing import SplitToWrite, counted, distinct_names
from setmatch.data.images.decoding import read_header, size_for_annotations
from setmatch.errors import DataError

_TOLERANCE_PX = 0.5  # by which a polygon's bounding box may differ from the object's box


def write_yolo(folder: Path, splits: Sequence[SplitToWrite]) -> list[str]:
    """Write all splits. An object with polygons becomes a polygon line, any other a box line.

    Several polygons of one object are joined by lines of zero width. If the polygons' bounding box
    is not the object's box, the box is written. Boxes of an image that was annotated as it is
    stored are turned by its EXIF orientation, as YOLO tools turn the image. Crowds are left out,
    and few images of another shape than they are annotated with. Returns a sentence for each kind
    of thing that was lost or changed. Raises DataError if the splits have different classes, or
    many images another shape.
    """
    names = splits[0].dataset.categories.names
    for split in splits:
        if split.dataset.categories.names != names:
            raise DataError(
                f"{split.dataset.source}: classes {split.dataset.categories.names} in split "
                f"{split.name!r}, but {names} in {splits[0].name!r}; YOLO has one list for all"
            )
    crowds, boxes_only, turned = 0, 0, 0
    lost: list[AnnotationFix] = []
    for split in splits:
        split = replace(split, dataset=_of_annotated_shape(split.dataset, lost))
        dataset = split.dataset
        files = distinct_names(dataset.file_names(), taken=set())
        split.place_images(folder / "images" / split.name, files)
        crowds += int(dataset.crowd.sum())
        for image, file in enumerate(files):
            height, width = dataset.size_px(image)
            orientation = _orientation(dataset, image)
            turned += orientation != 1
            lines = []
            for row in dataset.rows(image):
                if dataset.crowd[row]:
                    continue
                fractions, polygon_lost = _fractions(dataset, row, width, height)
                boxes_only += polygon_lost
                fractions = _turned(fractions, orientation)
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
            turned,
            "images",
            "annotated without their EXIF orientation, which YOLO tools apply: boxes turned",
        ),
        *counted(len(lost), "images", "of another shape than they are annotated with: left out"),
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


def _of_annotated_shape(dataset: DetectionDataset, lost: list[AnnotationFix]) -> DetectionDataset:
    """Return the images whose file has the shape of their annotations; add others to `lost`.

    Fractions would be of the wrong sides. Raises DataError where these are many.
    """
    sizes_px = [dataset.size_px(image) for image in range(len(dataset))]
    fits = [size_for_annotations(dataset.path(i), size) == size for i, size in enumerate(sizes_px)]
    if all(fits):
        return dataset
    wrong = [dataset.name(image) for image in np.flatnonzero(~np.array(fits)).tolist()]
    absent = [AnnotationFix(name, None, name, OTHER_SHAPE) for name in wrong]
    drop_missing(dataset.images, absent, len(dataset), lost, "correct the sizes in the annotations")
    return dataset.choose(np.flatnonzero(fits))


def _orientation(dataset: DetectionDataset, image: int) -> int:
    """Return the EXIF orientation of an image that was annotated as it is stored; 1 for others."""
    try:
        header = read_header(dataset.path(image))
    except DataError:
        return 1  # the file cannot be read either way
    height, width = dataset.size_px(image)
    as_stored = (height, width) == header.size_px and height != width
    return header.orientation if as_stored and header.orientation in _TURNS else 1


# Where the point x, y of the stored image is in the upright one, by orientation, in fractions.
_TURNS: dict[int, Callable[[float, float], tuple[float, float]]] = {
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


def _turned(numbers: list[float], orientation: int) -> list[float]:
    """Return the numbers of a line for the upright image."""
    if orientation == 1:
        return numbers
    turn = _TURNS[orientation]
    if len(numbers) == 4:
        x, y, w, h = numbers
        return [*turn(x, y), h, w]
    points = zip(numbers[::2], numbers[1::2], strict=True)
    return [value for x, y in points for value in turn(x, y)]
