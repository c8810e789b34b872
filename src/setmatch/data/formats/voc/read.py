"""Read Pascal VOC: a folder of XML files.

Boxes are read as edges, width = xmax - xmin, as nearly every tool writes them today. Only the
challenge's own files, whose <source><annotation> is PASCAL VOC, give the first and the last pixel,
counted from 1: x = xmin - 1, width = xmax - xmin + 1. Objects marked difficult become crowds,
because VOC neither trains on them nor counts them. Swapped corners are put in order. The image size
comes from the image file where the XML has none or a wrong one. Classes are the names in all splits
in alphabetical order, unless a classes.txt gives another order.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from setmatch.data.annotations.box_convention import XYXY_PX, BoxConvention
from setmatch.data.annotations.boxes_in_pixels import turned_xywh_px
from setmatch.data.annotations.cleaning import SWAPPED, TURNED
from setmatch.data.annotations.rotations import require_degrees, require_turns
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.build import AnnotationBuffer, ImageTable, assemble
from setmatch.data.formats.class_names import categories_of, read_names
from setmatch.data.formats.layout import common_folder, files_in
from setmatch.data.formats.locate_images import BY_STEM, SearchArea, locate_images
from setmatch.data.formats.missing_images import UNREADABLE, drop_damaged, drop_missing
from setmatch.data.formats.voc.split import VocSplit, files_by_stem
from setmatch.data.formats.voc.xml import (
    SIDES,
    TURNED_SIDES,
    Polygon,
    VocFile,
    VocObject,
    difference,
    number,
    parse_voc,
    total,
)
from setmatch.data.formats.written_paths import fold, written_parts
from setmatch.data.images.decoding import size_for_annotations
from setmatch.data.images.image_paths import SUFFIXES
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile
from setmatch.errors import DataError, short

_FLAGS = {  # of <difficult>, in small letters
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "", "unspecified"), False),
}


def read_voc(
    split: VocSplit,
    root: Path,
    area: SearchArea,
    others: Sequence[VocSplit] = (),
    boxes: BoxConvention | None = None,
) -> DetectionDataset:
    """Read a split. `others` can add class names; `root` can have a classes.txt.

    `area` is where its images may be. `boxes` is the convention of the boxes, if it is known not to
    be VOC's own, or to be it.
    Images without an XML file are left out and recorded, and so are a few XML files without an
    image, and a few that are malformed, declare a DOCTYPE, or have an object without name or box.
    Raises DataError with file and line where these are many.
    """
    fixes: list[AnnotationFix] = []
    files = _parse(split.files(), fixes)
    if not files:
        raise DataError(
            f"{split.names or split.annotations}: no XML file for this split; add at least one"
        )
    listed = read_names(root)
    found = {_name(file, each) for file in files for each in file.objects}
    found.update(*(_class_names(other) for other in others if other != split))
    categories = categories_of(listed, sorted(found), root, fixes, first_id=1)
    class_indices = {name: class_index for class_index, name in enumerate(categories.names)}
    files, image_table = _with_images(files, split.annotations, area, fixes)
    if split.names is None:
        _note_unlabeled(split, image_table, fixes)
    require_degrees(root, (each.rotation for file in files for each in file.objects))
    sizes_px = image_table.sizes_px.tolist()
    if boxes is None:
        _require_left_top(files, sizes_px)
        _require_turns(root, files, image_table)
    buffer = AnnotationBuffer()
    for image, file in enumerate(files):
        for each in file.objects:
            box = _box(file, each, tuple(sizes_px[image]), boxes or XYXY_PX, fixes)
            _add(buffer, image, class_indices[_name(file, each)], file, each, box, fixes)
    from_one = sum(file.counts_from_one for file in files)
    if from_one:
        done = "boxes in pixels counted from 1, as in the challenge: read as edges from 0"
        fixes.append(AnnotationFix.of_many(f"{from_one} files of PASCAL VOC itself", done))
    names = [file.path.name for file in files]
    rows, segmentations = buffer.rows(), buffer.segmentations()
    written = buffer.written(boxes or XYXY_PX, is_certain=boxes is not None)
    return assemble(root, image_table, categories, rows, segmentations, fixes, names, written)


def _note_unlabeled(split: VocSplit, images: ImageTable, fixes: list[AnnotationFix]) -> None:
    """Record the image files that no XML file is about, by its name or by what it says."""
    stems = {fold(Path(name).stem) for name in files_by_stem(split.annotations).values()}
    used = {images.root / name for name in images.names}
    unlabeled = {
        Path(name).stem: name
        for folder in split.images
        for name in files_in(folder, SUFFIXES)
        if folder / name not in used and fold(Path(name).stem) not in stems
    }
    done = "without an XML file: left out, since it may not be empty"
    fixes += [AnnotationFix(unlabeled[stem], None, "image", done) for stem in sorted(unlabeled)]


def _parse(paths: Sequence[Path], fixes: list[AnnotationFix]) -> list[VocFile]:
    """Return the annotation files, without a few damaged ones, which are recorded."""
    files: list[VocFile] = []
    damaged: dict[Path, DataError] = {}
    for path in paths:
        try:
            file = _without_deleted(parse_voc(path), fixes)
            for each in file.objects:
                _name(file, each)
                _box_numbers(file, each)
        except DataError as error:
            damaged[path] = error
        else:
            files.append(file)
    drop_damaged(damaged, len(paths), fixes)
    return files


def _without_deleted(file: VocFile, fixes: list[AnnotationFix]) -> VocFile:
    """Return the file without objects that are marked as deleted, which are recorded."""
    for each in file.objects:
        if each.is_deleted:
            value = f"object {short(each.values.get('name', ''), 200)}"
            done = "marked deleted: left out"
            fixes.append(AnnotationFix(file.path.name, None, value, done, each.line))
    return replace(file, objects=[each for each in file.objects if not each.is_deleted])


def _class_names(split: VocSplit) -> set[str]:
    names = set()
    for path in files_by_stem(split.annotations).values():
        try:
            file = parse_voc(split.annotations / path)
        except DataError:
            continue  # it is named when its own split is opened
        kept = [each.values for each in file.objects if not each.is_deleted]
        names |= {values["name"] for values in kept if values.get("name")}
    return names


def _name(file: VocFile, each: VocObject) -> str:
    name = each.values.get("name", "")
    if not name:
        raise DataError(f"{file.path}:{each.line}: an object has no <name>; name its class")
    return name


def _with_images(
    files: Sequence[VocFile], annotations: Path, area: SearchArea, fixes: list[AnnotationFix]
) -> tuple[list[VocFile], ImageTable]:
    """Return the files with a usable image, and these images; a few others are left out."""
    located = locate_images([_image_names(file, annotations) for file in files], area)
    fixes += [fix for fix in located.fixes if fix.description != BY_STEM]  # as usual in this format
    usable: list[tuple[VocFile, Path, tuple[int, int]]] = []
    absent: list[AnnotationFix] = []
    unread: list[UnreadableFile] = []
    for position, (file, name) in enumerate(zip(files, located.names, strict=True)):
        if name is None:
            value = file.values.get("filename", "")[:60] or f"{file.path.stem}.*"
            done = located.why_absent(position)
            absent.append(AnnotationFix(file.path.name, None, value, done))
            continue
        path = located.root / name
        fixes += _naming_fixes(file, path)
        try:
            usable.append((file, path, _size_px(file, path, fixes)))
        except UnreadableError as error:
            absent.append(AnnotationFix(file.path.name, None, path.name, UNREADABLE))
            unread.append(error.file)
    place = ", ".join(map(str, area.usual))
    drop_missing(place, absent, len(files), fixes, located.advice)
    base = common_folder([path for _, path, _ in usable])
    return [file for file, _, _ in usable], ImageTable(
        base,
        np.arange(1, len(usable) + 1),
        [path.relative_to(base).as_posix() for _, path, _ in usable],
        np.array([size_px for _, _, size_px in usable], dtype=np.int32),
        notes=located.notes,
        unread=tuple(unread),
    )


def _image_names(file: VocFile, annotations: Path) -> list[str]:
    """Return what the image may be called: like the XML file, or else like its <filename>.

    Its `path` or `folder` decides which is meant if several folders have such an image, or the
    folder of the XML file in that of all annotations.
    """
    given, stem = file.values.get("filename", ""), file.path.stem
    base = _base(given)
    own = [base] if Path(base).stem == stem else []
    inner = file.path.parent.relative_to(annotations).as_posix()
    names = [*own, stem] if inner == "." else [f"{inner}/{each}" for each in (*own, stem)]
    path, folder = file.values.get("path", ""), file.values.get("folder", "")
    names += [given] if given else []
    names += [path] if _base(path) else []
    names += [f"{folder}/{base}"] if folder and base else []
    return list(dict.fromkeys(names))


def _base(name: str) -> str:
    return (written_parts(name) or ("",))[-1]


def _naming_fixes(file: VocFile, path: Path) -> Iterator[AnnotationFix]:
    """Yield what is odd about the names of an XML file and its image."""
    given, stem = _base(file.values.get("filename", "")), file.path.stem
    if not given or fold(given) == fold(path.name) == fold(f"{stem}{path.suffix}"):
        return
    if fold(path.stem) != fold(stem):
        done = "image found by its <filename>"
    elif fold(Path(given).stem) == fold(stem):
        done = "<filename> with another suffix: image of the XML file's own name used"
    else:
        done = "<filename> of another image: image of the XML file's own name used"
    yield AnnotationFix(file.path.name, None, given[:60], done)


def _size_px(file: VocFile, path: Path, fixes: list[AnnotationFix]) -> tuple[int, int]:
    texts = [file.values.get(key, "") for key in ("height", "width")]
    valid = all(text.isascii() and text.isdigit() and 0 < len(text) < 8 for text in texts)
    height, width = map(int, texts) if valid else (0, 0)
    annotated_px = (height, width) if height and width else None
    size_px = size_for_annotations(path, annotated_px)
    if size_px != annotated_px:
        given = "height {}, width {}".format(*(text or "absent" for text in texts))
        fixes.append(AnnotationFix(file.path.name, None, given, "size read from the image file"))
    return size_px


@dataclass(frozen=True)
class _Box:
    written: list[float]  # the four numbers in the file
    xywh_px: tuple[float, float, float, float]


def _box(
    file: VocFile,
    each: VocObject,
    size_px: tuple[int, int],
    boxes: BoxConvention,
    fixes: list[AnnotationFix],
) -> _Box:
    if each.is_turned:
        return _turned_box(file, each, fixes)
    if each.is_polygon:
        return _box_of_polygons(file, each, fixes)
    texts, written = _box_numbers(file, each)
    first = float(file.counts_from_one)  # coordinate of the first pixel
    if each.sized_sides and boxes.layout == "xyxy":
        value = f"box with <{each.sized_sides[0]}> and <{each.sized_sides[2]}>"
        done = "box of x, y, width and height: read"
        fixes.append(AnnotationFix(file.path.name, None, value, done, each.line))
        texts = [*texts[:2], *(total(*map(float, (texts[i], texts[i + 2]))) for i in (0, 1))]
        written = [float(text) for text in texts]
        first = 0.0
    values = list(written)
    if boxes.layout == "xyxy" and (values[0] > values[2] or values[1] > values[3]):
        box = ", ".join(texts)
        fixes.append(AnnotationFix(file.path.name, None, f"corners [{box}]", SWAPPED, each.line))
        for low, high in ((0, 2), (1, 3)):
            if values[low] > values[high]:
                texts[low], texts[high] = texts[high], texts[low]
                values[low], values[high] = values[high], values[low]
    if boxes == XYXY_PX:
        width, height = difference(texts[2], texts[0]), difference(texts[3], texts[1])
        x, y, w, h = values[0] - first, values[1] - first, width + first, height + first
    else:
        x, y, w, h = boxes.box_px(values, size_px)
    name, degrees = each.rotation
    if degrees % 180:
        x, y, w, h = turned_xywh_px(np.array([[x, y, w, h]]), np.array([degrees]))[0].tolist()
        value = f"{name} {degrees:g}"
        fixes.append(AnnotationFix(file.path.name, None, value, TURNED, each.line))
    return _Box(written, (x, y, w, h))


def _require_left_top(files: Sequence[VocFile], sizes_px: Sequence[tuple[int, int]]) -> None:
    """Raise DataError where <x> and <y> beside a size are rather the center of the box.

    So they are if more than one box in ten leaves its image otherwise, and none does then.
    """
    boxes: list[list[float]] = []
    sides_px: list[tuple[int, int]] = []
    first = None
    for file, (height, width) in zip(files, sizes_px, strict=True):
        for each in file.objects:
            if each.sized_sides and each.sized_sides[0] == "x" and not each.is_turned:
                boxes.append(_box_numbers(file, each)[1])
                sides_px.append((width, height))
                first = first or f"{file.path}:{each.line}"
    if not boxes:
        return
    xywh_px, sides = np.array(boxes), np.array(sides_px)
    low, size = xywh_px[:, :2], xywh_px[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        beyond = (low + size > sides + 1).any(axis=1).sum()
        beyond_as_center = ((low + size / 2 > sides + 1) | (low - size / 2 < -1)).any(axis=1).sum()
    if 10 * beyond > len(boxes) and not beyond_as_center:
        raise DataError(
            f"{first}: <x> and <y> are probably the centers of the boxes: {beyond} of "
            f"{len(boxes)} boxes leave their image if they are the left top, and none does if they "
            "are the center; read them so with --boxes cxcywh, or with --boxes xywh if not so"
        )


def _require_turns(root: Path, files: Sequence[VocFile], images: ImageTable) -> None:
    """Raise DataError where attributes called angle probably turn nothing."""
    found = []
    for image, file in enumerate(files):
        for each in file.objects:
            name, degrees = each.rotation
            is_plain = not (each.is_turned or each.is_polygon or each.sized_sides)
            if name == "angle" and degrees % 180 and is_plain:
                found.append((image, degrees, _box_numbers(file, each)[1]))
    if not found:
        return
    numbers = np.array([image for image, _, _ in found])
    angles = np.array([degrees for _, degrees, _ in found])
    corners = np.array([values for _, _, values in found])
    xywh_px = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    hulls_px = turned_xywh_px(xywh_px, angles)
    require_turns(root, angles, xywh_px, hulls_px, images.sizes_px[numbers])


def _turned_box(file: VocFile, each: VocObject, fixes: list[AnnotationFix]) -> _Box:
    """Return the upright box around a turned one, which has a center, a size and an angle."""
    texts, (x, y, w, h, angle) = _box_numbers(file, each)
    upright = np.array([[x - w / 2, y - h / 2, w, h]])
    hull = turned_xywh_px(upright, np.degrees([angle]))[0].tolist()
    value = f"robndbox [{', '.join(text[:20] for text in texts)}]"
    fixes.append(AnnotationFix(file.path.name, None, value, TURNED, each.line))
    return _Box([math.nan] * 4, (hull[0], hull[1], hull[2], hull[3]))


def _box_of_polygons(file: VocFile, each: VocObject, fixes: list[AnnotationFix]) -> _Box:
    points = np.concatenate([_points(polygon) or [] for polygon in each.polygons]).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    value = f"object {short(each.values['name'], 200)}"
    done = "no box: the box around its polygons"
    fixes.append(AnnotationFix(file.path.name, None, value, done, each.line))
    return _Box([math.nan] * 4, (x0, y0, x1 - x0, y1 - y0))


def _box_numbers(file: VocFile, each: VocObject) -> tuple[list[str], list[float]]:
    """Return the numbers of an object's box in the file, as text and as numbers.

    An object of polygons alone has none.
    """
    if each.is_polygon and any(map(_points, each.polygons)):
        return [], []
    given, tag = (each.turned_box, "robndbox") if each.is_turned else (each.box, "bndbox")
    names: Sequence[str] = TURNED_SIDES if each.is_turned else each.sized_sides or SIDES
    place = f"{file.path}:{each.line}: object {short(each.values['name'], 200)}"
    texts = []
    for name in names:
        if name not in given:
            raise DataError(f"{place} has no <{name}> in a <{tag}>; give it or remove the object")
        texts.append(given[name])
    values = [
        number(text, partial(_not_a_number, place, name, text))
        for name, text in zip(names, texts, strict=True)
    ]
    return texts, values


def _add(
    buffer: AnnotationBuffer,
    image: int,
    class_index: int,
    file: VocFile,
    each: VocObject,
    box: _Box,
    fixes: list[AnnotationFix],
) -> None:
    difficult = each.values.get("difficult", "0")
    crowd = _FLAGS.get(difficult.lower())
    if crowd is None:
        done = "<difficult> neither 0 nor 1: read as 0"
        fixes.append(AnnotationFix(file.path.name, None, difficult[:40], done, each.line))
        crowd = False
    if crowd:
        value = f"object {short(each.values['name'], 200)}"
        done = "marked difficult: read as a crowd, neither trained on nor counted"
        fixes.append(AnnotationFix(file.path.name, None, value, done, each.line))
    buffer.add(image, class_index, box.xywh_px, each.line, crowd, box.written)
    for polygon in each.polygons:
        _add_polygon(buffer, polygon, file, each, fixes)


def _not_a_number(place: str, side: str, text: str) -> DataError:
    return DataError(f"{place}: <{side}> is {text[:40]!r}; it should be a number")


def _add_polygon(
    buffer: AnnotationBuffer,
    polygon: Polygon,
    file: VocFile,
    each: VocObject,
    fixes: list[AnnotationFix],
) -> None:
    """Add a polygon x1, y1, x2, ... to the last object; leave out and record a malformed one."""
    points = _points(polygon)
    if points is None:
        value = ", ".join(f"{key} {text}" for key, text in list(polygon.items())[:4])
        done = "polygon without three whole points: left out"
        fixes.append(AnnotationFix(file.path.name, None, value[:60], done, each.line))
        return
    buffer.add_ring(points)


def _points(polygon: Polygon) -> list[float] | None:
    """Return a polygon's x, y, x, y, ...; None if it has fewer than three whole points."""
    count = len(polygon) // 2
    keys = [f"{axis}{point}" for point in range(1, count + 1) for axis in "xy"]
    try:
        points = [float(polygon[key]) for key in keys]
    except (KeyError, ValueError):
        return None
    is_whole = len(polygon) % 2 == 0 and bool(np.isfinite(np.array(points, np.float32)).all())
    return points if len(points) >= 6 and is_whole else None
