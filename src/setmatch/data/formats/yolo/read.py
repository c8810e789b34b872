"""Read YOLO labels: a text file for each image.

A line is a class index and a box (center x, center y, width, height, as fractions of the image),
or a class index and a polygon (x, y of three or more points), whose bounding box is the box. An
image without a text file, or with an empty one, has no objects. Repeated lines are kept.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.build import AnnotationBuffer, ImageTable, assemble
from setmatch.data.formats.class_names import NAME_FILES, categories_of
from setmatch.data.formats.layout import common_folder, files_in, subfolders
from setmatch.data.formats.missing_images import MISSING, UNREADABLE, drop_missing, drop_undecoded
from setmatch.data.image_io import size_for_annotations
from setmatch.data.image_paths import SUFFIXES
from setmatch.data.splits import canonical
from setmatch.errors import DataError
from setmatch.reading import read_text

_NUMBERS_OF_BOX = 5  # class index, x, y, width, height
_MAX_FRACTION = 2.0  # of the image's side; larger numbers are pixels


@dataclass(frozen=True)
class Line:
    """One line of a label file: class index, then fractions of width and height in turn."""

    number: int
    class_index: int
    fractions: list[float]


def read_yolo(
    source: Path, images: Sequence[Path], labels: Sequence[Path], names: Sequence[str] | None
) -> DetectionDataset:
    """Read the given images; `labels` are their text files, which need not exist.

    Without class `names`, classes are named by their numbers, up to the highest one in the text
    files of all splits. Raises DataError with file, line and value for a line that is not a label,
    a class without a name, and coordinates in pixels rather than fractions.
    """
    if not images:
        raise DataError(f"{source}: no image in this split; add images, or name another folder")
    fixes: list[AnnotationFix] = []
    listed = drop_undecoded(list(zip(images, labels, strict=True)), fixes)
    if not listed:
        raise DataError(
            f"{source}: nothing here decodes its {len(images)} image files, such as "
            f"{images[0].name}; convert them to JPEG or PNG"
        )
    sizes_px = _sizes_px(source, [image for image, _ in listed], fixes)
    images, labels = zip(*(each for each in listed if each[0] in sizes_px), strict=True)
    lines = [_lines(path, fixes) for path in labels]
    _note_unlabeled(labels, lines, fixes)
    _note_orphan_labels(listed, fixes)
    if names is None:
        names = [str(class_index) for class_index in range(_highest_class(labels) + 1)]
        value = f"no data.yaml and no classes.txt: {len(names)} classes"
        fixes.append(AnnotationFix.of_many(value, "named by their numbers"))
    categories = categories_of(names, (), source, fixes, first_id=0)
    buffer = AnnotationBuffer()
    for number, (image, path, image_lines) in enumerate(zip(images, labels, lines, strict=True)):
        height, width = sizes_px[image]
        for line in image_lines or ():
            if line.class_index >= len(names):
                raise DataError(
                    f"{path}:{line.number}: class {line.class_index}, but only {len(names)} "
                    f"classes have names (0 to {len(names) - 1}); name it or correct the line"
                )
            _add(buffer, number, line, width, height)
    root = common_folder(images)
    image_table = ImageTable(
        root,
        np.arange(1, len(images) + 1),
        [image.relative_to(root).as_posix() for image in images],
        np.array([sizes_px[image] for image in images], dtype=np.int32),
    )
    rows, segmentations = buffer.rows(), buffer.segmentations()
    files = [path.name for path in labels]
    return assemble(source, image_table, categories, rows, segmentations, fixes, files)


def _sizes_px(
    source: Path, images: Sequence[Path], fixes: list[AnnotationFix]
) -> dict[Path, tuple[int, int]]:
    """Return the sizes of the images whose header can be read; a few others are left out.

    Without the size, a label's fractions say nothing.
    """
    sizes_px, absent = {}, []
    for image in images:
        try:
            sizes_px[image] = size_for_annotations(image, None)
        except DataError:
            done = UNREADABLE if os.path.lexists(image) else MISSING
            absent.append(AnnotationFix(image.name, None, image.name, done))
    drop_missing(source, absent, len(images), fixes)
    return sizes_px


def _lines(path: Path, fixes: list[AnnotationFix]) -> list[Line] | None:
    """Return the lines of a label file; None where there is no such file."""
    try:
        text = read_text(path, "utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); replace or remove the file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text, or not in UTF-8; replace or remove the file") from None
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if words:
            lines.append(_line(path, number, words, fixes))
    return lines


def _line(path: Path, number: int, words: list[str], fixes: list[AnnotationFix]) -> Line:
    shown = repr(" ".join(words)[:60])
    if len(words) != _NUMBERS_OF_BOX and (len(words) < 7 or len(words) % 2 == 0):
        raise DataError(
            f"{path}:{number}: {shown} has {len(words)} numbers; write 5 for a box (class, x, y, "
            "width, height), 7 or a larger odd number for a polygon (class, then x and y of each "
            "point)"
        )
    try:
        # float() would also accept "1_0" and "١".
        if any("_" in word or not word.isascii() for word in words):
            raise ValueError
        values = [float(word) for word in words]
    except ValueError:
        raise DataError(f"{path}:{number}: {shown} is not all numbers; correct the line") from None
    class_, fractions = values[0], values[1:]
    if not 0 <= class_ < 2**31 or class_ != int(class_):
        raise DataError(f"{path}:{number}: class {words[0][:40]}; it should be 0, 1, 2, ...")
    if not words[0].isdigit():
        done = "class written as fraction: read as integer"
        fixes.append(AnnotationFix(path.name, None, f"class {words[0][:40]}", done, number))
    largest = max(map(abs, fractions), default=0)
    if np.isfinite(largest) and largest > _MAX_FRACTION:
        raise DataError(
            f"{path}:{number}: {largest:g} is not a fraction of the image; divide x and width by "
            "the image's width in pixels, y and height by its height"
        )
    return Line(number, int(class_), fractions)


def _add(labels: AnnotationBuffer, image: int, line: Line, width: int, height: int) -> None:
    values = line.fractions
    if len(values) == _NUMBERS_OF_BOX - 1:
        x, y, w, h = values
        box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
        labels.add(image, line.class_index, box, line.number)
        return
    points: Float64[np.ndarray, "P 2"] = np.array(values).reshape(-1, 2) * (width, height)
    low, high = points.min(axis=0), points.max(axis=0)
    with np.errstate(invalid="ignore"):  # a box that is not finite is dropped later
        (x0, y0), (w, h) = low.tolist(), (high - low).tolist()
    labels.add(image, line.class_index, (x0, y0, w, h), line.number)
    if np.isfinite(points).all():
        labels.add_ring(points.ravel().tolist())


def _note_unlabeled(
    labels: Sequence[Path], lines: Sequence[list[Line] | None], fixes: list[AnnotationFix]
) -> None:
    """Record images without a label file; raises DataError where no image has one."""
    absent = sum(image_lines is None for image_lines in lines)
    if absent:
        done = "without a label file: read as images without objects"
        fixes.append(AnnotationFix.of_many(f"{absent} of {len(lines)} images", done))
    if absent == len(lines):
        folders = ", ".join(sorted({str(path.parent) for path in labels})[:3])
        raise DataError(
            f"{folders}: none of {len(lines)} images has a label file; put one beside each image "
            "with an object, or into labels/ beside images/"
        )


def _note_orphan_labels(listed: Sequence[tuple[Path, Path]], fixes: list[AnnotationFix]) -> None:
    """Record label files without an image in this split or in the folders beside it."""
    images: dict[Path, set[str]] = {}
    for image, label in listed:
        images.setdefault(label.parent, set()).add(image.stem)
    for place, beside in dict.fromkeys((image.parent, label.parent) for image, label in listed):
        images[beside] |= {Path(name).stem for name in files_in(place, SUFFIXES)}
    for folder in sorted(images):
        for name in files_in(folder, [".txt"]):
            stem = Path(name).stem
            if stem not in images[folder] and name not in NAME_FILES and canonical(stem) is None:
                fixes.append(AnnotationFix(name, None, "label file", "without an image: left out"))


def _highest_class(labels: Sequence[Path]) -> int:
    """Return the highest class index in all label files of the data set."""
    # Neighboring folders hold the other splits, which have the same classes.
    folders = {path.parent for path in labels}
    folders |= {each for folder in folders for each in subfolders(folder.parent)}
    highest = 0
    for folder in sorted(folders):
        for name in files_in(folder, [".txt"]):
            try:
                lines = _lines(folder / name, []) or ()
            except DataError:
                continue  # not a label file, or of another split, which reports it when opened
            highest = max([highest, *(line.class_index for line in lines)])
    return highest
