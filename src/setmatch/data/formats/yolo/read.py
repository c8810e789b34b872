"""Read YOLO labels: a text file for each image.

A line is a class index and a box (center x, center y, width, height, as fractions of the image),
or a class index and a polygon (x, y of three or more points), whose bounding box is the box. Other
lines are recognized by `resolve_rows`. An image without a text file, or with an empty one, has no
objects. Repeated lines are kept.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from setmatch.data.annotations.box_convention import CXCYWH_RELATIVE, BoxConvention
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.build import AnnotationBuffer, ImageTable, assemble
from setmatch.data.formats.class_names import categories_of, is_list_of_names
from setmatch.data.formats.layout import common_folder, files_in, folders_below, subfolders
from setmatch.data.formats.missing_images import (
    MISSING,
    UNREADABLE,
    drop_damaged,
    drop_missing,
    drop_undecoded,
)
from setmatch.data.formats.text_formats import describe_text
from setmatch.data.formats.yolo.label_files import labels_of
from setmatch.data.formats.yolo.rows import LabelFile, Line, resolve_rows
from setmatch.data.images.decoding import size_for_annotations
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile
from setmatch.data.splits import split_of_list
from setmatch.errors import DataError, quoted
from setmatch.files.reading import read_text

_NUMBERS_OF_BOX = 5  # class index, x, y, width, height
_MOST_UNNAMED = 10_000  # classes
_MAX_FRACTION = 2.0  # of the image's side; larger numbers are pixels


def read_yolo(
    source: Path,
    images: Sequence[Path],
    labels: Sequence[Path],
    names: Sequence[str] | None,
    absent: Sequence[AnnotationFix] = (),
    advice: str = "",
    keypoints: tuple[int, int] | None = None,
    boxes: BoxConvention | None = None,
    first_class: int = 0,
) -> DetectionDataset:
    """Read the given images; `labels` are their text files, which need not exist.

    `absent` are further images, which have no file: a few are left out. `advice` says what to do
    about many. `keypoints` are the number of keypoints and the numbers of each, where a data.yaml
    gives them. `boxes` is the convention of the boxes, if it is known not to be YOLO's own, or to
    be it. `first_class` is the number of the first class in the text files.

    Without class `names`, classes are named by their numbers, up to the highest one in the text
    files of all splits. Raises DataError with file, line and value for lines that are not labels,
    a class without a name, and coordinates in pixels rather than fractions. A few text files with
    lines that are not labels are left out instead, with their images, and recorded.
    """
    if not images and not absent:
        raise DataError(f"{source}: no image in this split; add images, or name another folder")
    fixes: list[AnnotationFix] = []
    listed, unread = drop_undecoded(list(zip(images, labels, strict=True)), fixes)
    if not listed and not absent:
        raise DataError(
            f"{source}: nothing here decodes its {len(images)} image files, such as "
            f"{images[0].name}; convert them to JPEG or PNG"
        )
    sizes_px, damaged = _sizes_px([image for image, _ in listed])
    unusable = [*absent, *(_left_out(image) for image in damaged)]
    drop_missing(source, unusable, len(listed) + len(absent), fixes, advice)
    usable = [(image, path) for image, path in listed if image in sizes_px]
    lines = _lines_of([path for _, path in usable], fixes)
    images, labels = zip(*(each for each in usable if each[1] in lines), strict=True)
    convention = boxes or CXCYWH_RELATIVE
    files = [
        LabelFile(path, lines[path], sizes_px[image])
        for image, path in zip(images, labels, strict=True)
    ]
    _note_unlabeled(files, fixes)
    _note_shared(labels, fixes)
    files = resolve_rows(files, keypoints, convention.rows, fixes)
    if convention.unit == "relative":
        _require_fractions(files, is_certain=boxes is not None)
    _note_orphan_labels(listed, {Path(fix.file).stem for fix in absent}, fixes)
    if names is None:
        highest = _highest_class(labels, source)
        if highest >= _MOST_UNNAMED:  # a list of names up to 2**31 fills the memory
            raise DataError(
                f"{source}: no data.yaml and no classes.txt, and class {highest}; list the class "
                "names in a data.yaml, or correct the labels"
            )
        names = [str(class_index) for class_index in range(highest + 1)]
        value = f"no data.yaml and no classes.txt: {len(names)} classes"
        fixes.append(AnnotationFix.of_many(value, "named by their numbers"))
    categories = categories_of(names, (), source, fixes, first_id=0)
    buffer = AnnotationBuffer()
    for number, file in enumerate(files):
        for line in file.lines or ():
            if not 0 <= line.class_index - first_class < len(names):
                raise _unnamed_class(file.path, line, files, names, first_class)
            named = replace(line, class_index=line.class_index - first_class)
            _add(buffer, number, named, file.size_px, convention)
    root = common_folder(images)
    image_table = ImageTable(
        root,
        np.arange(1, len(images) + 1),
        [image.relative_to(root).as_posix() for image in images],
        np.array([sizes_px[image] for image in images], dtype=np.int32),
        unread=(*unread, *damaged.values()),
    )
    rows, segmentations = buffer.rows(), buffer.segmentations()
    label_files = [path.name for path in labels]
    written = buffer.written(convention, is_certain=boxes is not None)
    return assemble(
        source, image_table, categories, rows, segmentations, fixes, label_files, written
    )


def _unnamed_class(
    path: Path,
    line: Line,
    files: Sequence[LabelFile],
    names: Sequence[str],
    first_class: int,
) -> DataError:
    """Return the error of a class without a name. All labels tell if they may count from 1."""
    used = {each.class_index for file in files for each in file.lines or ()}
    last = first_class + len(names) - 1
    problem = (
        f"{path}:{line.number}: class {line.class_index}, but only {len(names)} classes have names "
        f"({first_class} to {last})"
    )
    if not first_class and 0 not in used and max(used) == len(names):
        shown = ", ".join(f"{number}: {quoted([name])}" for number, name in enumerate(names[:3], 1))
        return DataError(
            f"{problem}, and no object has class 0: do the labels count from 1? If so, write the "
            f"numbers into a data.yaml, names: {{{shown}{', ...' * (len(names) > 3)}}}; otherwise "
            "add the missing name"
        )
    return DataError(f"{problem}; name it or correct the line")


def _sizes_px(
    images: Sequence[Path],
) -> tuple[dict[Path, tuple[int, int]], dict[Path, UnreadableFile]]:
    """Return the sizes of the images whose header can be read, and why not of the others.

    Without the size, a label's fractions say nothing.
    """
    sizes_px, damaged = {}, {}
    for image in images:
        try:
            sizes_px[image] = size_for_annotations(image, None)
        except UnreadableError as error:
            damaged[image] = error.file
    return sizes_px, damaged


def _left_out(image: Path) -> AnnotationFix:
    done = UNREADABLE if os.path.lexists(image) else MISSING
    return AnnotationFix(image.name, None, image.name, done)


def _lines_of(
    labels: Sequence[Path], fixes: list[AnnotationFix]
) -> dict[Path, tuple[Line, ...] | None]:
    """Return the lines of each label file; None where there is no such file.

    A few files that cannot be read, or have lines that are not labels, are absent.
    """
    lines: dict[Path, tuple[Line, ...] | None] = {}
    damaged: dict[Path, DataError] = {}
    for path in labels:
        try:
            lines[path] = _lines(path, fixes)
        except DataError as error:
            damaged[path] = error
    drop_damaged(damaged, len(labels), fixes)
    return lines


def _lines(path: Path, fixes: list[AnnotationFix]) -> tuple[Line, ...] | None:
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
    if known := describe_text(text):
        raise DataError(f"{path}: looks like {known}")
    lines = []
    separated = 0
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        parts = _between_commas(line)
        separated += parts is not None
        if words:
            lines.append(_line(path, number, parts or words, fixes))
    if separated:
        done = "numbers with commas or semicolons between them: read"
        fixes.append(AnnotationFix(path.name, None, f"{separated} lines", done))
    return tuple(lines)


def _between_commas(line: str) -> list[str] | None:
    """Return the numbers of a line that has commas or semicolons between all; None for others.

    A decimal comma is none: "0 0,5 0,5" has blanks between the numbers.
    """
    for separator in ",;":
        parts = [part.strip() for part in line.split(separator)]
        parts = parts[:-1] if parts[-1] == "" else parts
        if len(parts) >= _NUMBERS_OF_BOX and not any(re.search(r"\s|^$", part) for part in parts):
            return parts
    return None


def _line(path: Path, number: int, words: list[str], fixes: list[AnnotationFix]) -> Line:
    shown = repr(" ".join(words)[:60])
    if len(words) < _NUMBERS_OF_BOX:
        raise DataError(
            f"{path}:{number}: {shown} has {len(words)} numbers; write 5 for a box (class, x, y, "
            "width, height), with blanks between them"
        )
    try:
        # float() would also accept "1_0" and "١".
        if any("_" in word or not word.isascii() for word in words):
            raise ValueError
        values = [float(word) for word in words]
    except ValueError:
        problem = "is not all numbers, with blanks between them and points in fractions"
        raise DataError(f"{path}:{number}: {shown} {problem}; correct the line") from None
    class_ = values[0]
    if not 0 <= class_ < 2**31 or class_ != int(class_):
        raise DataError(f"{path}:{number}: class {words[0][:40]}; it should be 0, 1, 2, ...")
    if not words[0].isdigit():
        done = "class written as fraction: read as integer"
        fixes.append(AnnotationFix(path.name, None, f"class {words[0][:40]}", done, number))
    return Line(number, int(class_), values[1:], shown)


def _require_fractions(files: Sequence[LabelFile], is_certain: bool) -> None:
    """Raise DataError for a number that is not a fraction of the image.

    Not where most lines are boxes with such numbers: then the whole file is of another convention,
    unless the user `is_certain` that it is not.
    """
    lines = [(file.path, line) for file in files for line in file.lines or ()]
    wrong = [
        (path, line)
        for path, line in lines
        if _MAX_FRACTION < max(map(abs, line.values)) < float("inf")
    ]
    are_boxes = all(len(line.values) == _NUMBERS_OF_BOX - 1 for _, line in wrong)
    if not wrong or (are_boxes and 2 * len(wrong) >= len(lines) and not is_certain):
        return
    path, line = wrong[0]
    raise DataError(
        f"{path}:{line.number}: {max(map(abs, line.values)):g} is not a fraction of the image; "
        "divide x and width by the image's width in pixels, y and height by its height, or read "
        "all of the data set in pixels or percent with --boxes pixels or --boxes percent"
    )


def _add(
    labels: AnnotationBuffer,
    image: int,
    line: Line,
    size_px: tuple[int, int],
    convention: BoxConvention,
) -> None:
    values = line.values
    if len(values) == _NUMBERS_OF_BOX - 1:
        box_px = convention.box_px(values, size_px)
        labels.add(image, line.class_index, box_px, line.number, written=values)
        return
    height, width = size_px
    scale_px = convention.scale_px(width, height)
    points: Float64[np.ndarray, "P 2"] = np.array(values).reshape(-1, 2) * scale_px
    low, high = points.min(axis=0), points.max(axis=0)
    with np.errstate(invalid="ignore"):  # a box that is not finite is dropped later
        (x0, y0), (w, h) = low.tolist(), (high - low).tolist()
    labels.add(image, line.class_index, (x0, y0, w, h), line.number)
    if np.isfinite(points).all():
        labels.add_ring(points.ravel().tolist())


def _note_shared(labels: Sequence[Path], fixes: list[AnnotationFix]) -> None:
    """Record label files that several images have, as a.png and a.jpg of one folder do."""
    images = Counter(labels)
    for path, count in images.items():
        if count > 1 and path.exists():
            done = "label file of several images: read for each"
            fixes.append(AnnotationFix(path.name, None, f"{count} images", done))


def _note_unlabeled(files: Sequence[LabelFile], fixes: list[AnnotationFix]) -> None:
    """Record images without a label file; raises DataError where no image has one."""
    absent = sum(file.lines is None for file in files)
    if absent:
        done = "without a label file: read as images without objects"
        fixes.append(AnnotationFix.of_many(f"{absent} of {len(files)} images", done))
    if absent == len(files):
        folders = ", ".join(sorted({str(file.path.parent) for file in files})[:3])
        raise DataError(
            f"{folders}: none of {len(files)} images has a label file; put one beside each image "
            "with an object, or into labels/ beside images/"
        )


def _note_orphan_labels(
    listed: Sequence[tuple[Path, Path]], absent: Set[str], fixes: list[AnnotationFix]
) -> None:
    """Record label files without an image in this split or in the folders beside it.

    Images whose stems are `absent` are recorded already.
    """
    names: dict[tuple[Path, Path], set[str]] = {}
    for image, label in listed:
        names.setdefault((image.parent, label.parent), set()).add(image.name)
    known: dict[Path, set[str]] = {}
    for (place, folder), inside in names.items():
        known.setdefault(folder, set()).update(labels_of(place, folder, inside).values())
    for folder in sorted(known):
        for name in files_in(folder, [".txt"]):
            stem = Path(name).stem
            is_known = name in known[folder] or stem in absent or Path(stem).stem in absent
            if not is_known and not is_list_of_names(name) and split_of_list(stem) is None:
                fixes.append(AnnotationFix(name, None, "label file", "without an image: left out"))


def _highest_class(labels: Sequence[Path], source: Path) -> int:
    """Return the highest class index in all label files of the data set."""
    # Neighboring folders and others of the same name, as in val/labels, hold the other splits,
    # which have the same classes.
    folders = {path.parent for path in labels}
    names = {folder.name for folder in folders}
    folders |= {each for folder in folders for each in subfolders(folder.parent)}
    folders |= {each for each in folders_below(source, source) if each.name in names}
    highest = 0
    for folder in sorted(folders):
        for name in files_in(folder, [".txt"]):
            try:
                lines = _lines(folder / name, []) or ()
            except DataError:
                continue  # not a label file, or of another split, which reports it when opened
            highest = max([highest, *(line.class_index for line in lines)])
    return highest
