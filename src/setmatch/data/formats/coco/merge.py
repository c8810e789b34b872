"""Several COCO files that are parts of one data set: a file for each class, batch or image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.base import SplitSource
from setmatch.data.formats.class_names import clean_name
from setmatch.data.formats.coco.read import (
    distinct_images,
    read_categories,
    read_lists,
    search_area,
)
from setmatch.data.formats.coco.schema import (
    AnnotationRecord,
    CategoryRecord,
    ImageRecord,
    InstancesFile,
    collector_paused,
    parse,
)
from setmatch.data.formats.coco.text_ids import number_text_ids
from setmatch.data.formats.columns import Records, as_integer
from setmatch.data.formats.written_paths import fold, written_parts
from setmatch.errors import short
from setmatch.files.reading import read_json

_OTHER_TASKS = ("stuff", "captions", "panoptic", "person_keypoints")  # of the same images
_DIVISIONS = ("fold", "split", "cv")  # which their author meant


class _Image(msgspec.Struct, gc=False):
    id: Any = None
    file_name: Any = None


class _Object(msgspec.Struct, gc=False):
    category_id: Any = None


class _Lists(msgspec.Struct):
    images: list[_Image]
    categories: list[CategoryRecord]
    annotations: list[_Object]


@dataclass(frozen=True)
class _Content:
    """Which images a file lists, and of which classes it has objects."""

    images: frozenset[str]
    classes: frozenset[str]


def are_parts(files: Sequence[Path]) -> bool:
    """Return whether files together are one data set, with each object in one of them.

    So they are if each has objects of its own classes, in images that others list too or under the
    name of its class; or if each has images of its own, and is called like its only image, or like
    the others but for numbers. Files of other images are otherwise splits, of the same classes in
    the same images otherwise the work of two people.
    """
    if any(file.stem.lower().startswith(_OTHER_TASKS) for file in files):
        return False
    contents = [_content(file) for file in files]
    known = [content for content in contents if content is not None]
    if len(known) < len(files):
        return False
    images = [content.images for content in known]
    classes = [content.classes for content in known]
    if _are_disjoint(images):
        return (
            _are_called_like_images(files, images)
            or _are_called_like_classes(files, classes)
            or _differ_in_numbers(files)
        )
    return all(classes) and _are_disjoint(classes)


def _are_disjoint(sets: Sequence[frozenset[str]]) -> bool:
    return len(frozenset().union(*sets)) == sum(map(len, sets))


def _are_called_like_images(files: Sequence[Path], images: Sequence[frozenset[str]]) -> bool:
    for file, names in zip(files, images, strict=True):
        bases = {(written_parts(name) or ("",))[-1] for name in names}
        stems = {fold(each) for base in bases for each in (base, base.rpartition(".")[0])}
        if len(names) != 1 or fold(file.stem) not in stems:
            return False
    return True


def _are_called_like_classes(files: Sequence[Path], classes: Sequence[frozenset[str]]) -> bool:
    return _are_disjoint(classes) and all(
        len(names) == 1 and next(iter(names)).lower() in file.stem.lower()
        for file, names in zip(files, classes, strict=True)
    )


def _differ_in_numbers(files: Sequence[Path]) -> bool:
    first, *others = (re.sub("[0-9]+", "0", file.stem.lower()) for file in files)
    return all(other == first for other in others) and not any(map(first.count, _DIVISIONS))


def _content(file: Path) -> _Content | None:
    try:
        lists = msgspec.json.decode(read_json(file), type=_Lists)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return None
    names = {str(each.id): each.name for each in lists.categories}
    used = [names.get(str(each.category_id)) for each in lists.annotations]
    images = [each.file_name for each in lists.images]
    if not all(isinstance(each, str) for each in (*used, *images)):
        return None
    return _Content(frozenset(images), frozenset(clean_name(str(name)) for name in set(used)))


def read_merged(split: SplitSource) -> DetectionDataset:
    """Read several COCO files, `details` of the split, as one.

    Images are the same by their file names, classes by theirs. Raises DataError as `read_coco`
    does, for files that contradict each other about an image's size, and for objects of images or
    classes that their file does not list.
    """
    files: Sequence[Path] = split.details
    fixes: list[AnnotationFix] = []
    area = search_area(files[0], split.images, split.root, split.split)
    with collector_paused():
        merged = _Merged(split.source)
        for file in files:
            merged.add(file, fixes)
        return read_lists(split.source, merged.lists(), area, split.boxes, fixes)


class _Merged:
    """The lists of the files so far, with numbers of their own."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._categories: dict[str, CategoryRecord] = {}
        self._images: dict[str, ImageRecord] = {}
        self._image_places: list[str] = []
        self._annotations: list[tuple[str, Sequence[AnnotationRecord]]] = []

    def add(self, file: Path, fixes: list[AnnotationFix]) -> None:
        lists = parse(file, InstancesFile)
        number_text_ids(lists, fixes)
        categories = read_categories(lists["categories"], fixes)
        category_numbers: dict[int | None, int] = {}  # None: what is not a number has none
        for id_, name in zip(categories.ids, categories.names, strict=True):
            assert name is not None, "names of categories are required"
            new = CategoryRecord(len(self._categories) + 1, name)
            category_numbers[id_] = self._categories.setdefault(name, new).id
        distinct = distinct_images(lists["images"], fixes)
        image_numbers: dict[int | None, int] = {}
        ids, names = distinct.ids.tolist(), distinct.names
        images: Sequence[ImageRecord] = lists["images"].rows
        for position, id_, name in zip(distinct.positions.tolist(), ids, names, strict=True):
            record = images[position]
            record.file_name = name
            known = self._images.setdefault(name, record)
            if known is record:
                record.id = len(self._images)
                self._image_places.append(f"{file.name}: images[{position}]")
            elif (known.height, known.width) != (record.height, record.width):
                sizes = f"{record.width}×{record.height}, and {known.width}×{known.height} in"
                place = self._image_places[known.id - 1]
                raise lists["images"].error(
                    position, f"{short(name, 200)} is {sizes} {place}; correct the wrong size"
                )
            image_numbers[id_] = known.id
        records = lists["annotations"]
        for position, record in enumerate(records.rows):
            for key, numbers in (("image_id", image_numbers), ("category_id", category_numbers)):
                written = getattr(record, key)
                listed = numbers.get(as_integer(written))
                if listed is None:
                    what = "images" if key == "image_id" else "categories"
                    raise records.error(
                        position,
                        f"{key} {short(written)} is none of the {what} of its file; list it, or "
                        "correct or remove the annotation",
                    )
                setattr(record, key, listed)
        self._annotations.append((file.name, records.rows))

    def lists(self) -> dict[str, Records]:
        annotations = [*chain.from_iterable(rows for _, rows in self._annotations)]
        ids = [record.id for record in annotations]
        if None in ids or len(set(map(str, ids))) < len(ids):
            for number, record in enumerate(annotations, start=1):
                record.id = number
        starts = [0, *accumulate(len(rows) for _, rows in self._annotations)]

        def place_of(position: int) -> str:
            part = int(np.searchsorted(starts, position, side="right")) - 1
            return f"{self._annotations[part][0]}: annotations[{position - starts[part]}]"

        categories, images = list(self._categories.values()), list(self._images.values())
        return {
            "categories": Records(self._source, "categories", categories),
            "images": Records(self._source, "images", images, self._image_places.__getitem__),
            "annotations": Records(self._source, "annotations", annotations, place_of),
        }
