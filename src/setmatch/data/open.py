"""Open one split of a data set, in whatever format it is."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from setmatch.data.cache.cache import cached
from setmatch.data.dataset import DetectionDataset
from setmatch.data.discovery import (
    DiscoveredDataset,
    discover_dataset,
    discover_splits,
    other_formats,
)
from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.coco.find import find_panoptic
from setmatch.data.formats.registry import format_named
from setmatch.data.splits import SPLITS, canonical, holdout_mask, is_held_out, words_for
from setmatch.errors import DataError, counted


class NoSplitError(DataError):
    """A data set has no such split, and no images to make it from."""


def open_dataset(
    data: str | Path, split: str, format: str | None = None, boxes: str | None = None
) -> DetectionDataset:
    """Open a split of a data set. A COCO JSON file is one split, whatever `split` says.

    Where there is no validation split, a hash of the file names divides the training images, and
    `notes` of the result says so. `boxes` names the convention of the boxes, such as "xyxy" or
    "relative", where it is not the format's own. Raises DataError with what was searched for and
    what was found, and where the boxes are probably of another convention.
    """
    path = Path(data)
    found = _in_convention(discover_dataset(path, format), boxes)
    return _sound(_opened(path, split, found.parts), found, split, format)


def open_training_splits(
    data: str | Path, format: str | None = None, boxes: str | None = None
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Open the splits train and val as `open_dataset` does, looking for them and reading once.

    The second is None where there is no validation split, and too few images to hold some out.
    """
    path = Path(data)
    found = _in_convention(discover_dataset(path, format), boxes)
    read = cache(cached)  # both may be taken from one file
    training = _sound(_opened(path, "train", found.parts, read), found, "train", format)
    if not _has_split(path, "val", found.parts):
        return training, None
    try:
        return training, _sound(_opened(path, "val", found.parts, read), found, "val", format)
    except NoSplitError:
        return training, None


@dataclass(frozen=True)
class OpenedSplits:
    """All splits of a data set: those that were opened, and why others could not be read."""

    discovered: DiscoveredDataset
    datasets: dict[str, DetectionDataset]
    errors: dict[str, DataError]


def open_splits(
    data: str | Path, format: str | None = None, boxes: str | None = None
) -> OpenedSplits:
    """Open every split of a data set as `open_dataset` does, looking for them and reading once.

    The splits are train, val and test, then others by name; a single file is one split, named like
    the file. A split that cannot be read is an error of the result, not an exception; one whose
    boxes are probably of another convention is opened, and says so. Raises
    DataError if there is no data set, or for a single file that cannot be read.
    """
    path = Path(data)
    found = _in_convention(discover_dataset(path, format), boxes)
    read = cache(cached)  # train and val may be taken from one file
    if is_one_split(path, found.parts):
        dataset = _opened(path, "train", found.parts, read)
        datasets = {path.stem: _with_notes(dataset, found, ())}
        return OpenedSplits(found, datasets, {})
    further = sorted(name for name in found.parts if name != WHOLE and canonical(name) is None)
    opened = OpenedSplits(found, {}, {})
    for split in (*SPLITS, *further):
        if not _can_open(found.parts, split):
            continue
        try:
            dataset = _opened(path, split, found.parts, read)
        except DataError as error:
            held_out = split == "val" and _undivided(found.parts, split) is not None
            if not (held_out and "train" in opened.datasets):  # else too few images to hold out
                opened.errors[split] = error
        else:
            others = _other_formats(found, split, format)
            opened.datasets[split] = _with_notes(dataset, found, others)
    return opened


def _in_convention(found: DiscoveredDataset, boxes: str | None) -> DiscoveredDataset:
    return replace(found, parts=in_convention(found.parts, boxes))


def in_convention(parts: dict[str, SplitSource], boxes: str | None) -> dict[str, SplitSource]:
    """Return the splits with the convention that the words `boxes` name; None changes nothing.

    Raises ConfigError for words that mean nothing in the format of the splits.
    """
    if boxes is None:
        return parts
    return {
        name: replace(part, boxes=format_named(part.format).convention(boxes))
        for name, part in parts.items()
    }


def _with_notes(
    dataset: DetectionDataset, found: DiscoveredDataset, others: Collection[str]
) -> DetectionDataset:
    note = (
        f"read as {_format_of(found)}, but {found.folder} holds {' and '.join(sorted(others))} "
        "annotations too: choose with --format"
    )
    return replace(dataset, notes=(*found.notes, *([note] if others else []), *dataset.notes))


def _sound(
    dataset: DetectionDataset, found: DiscoveredDataset, split: str, format: str | None
) -> DetectionDataset:
    others = _other_formats(found, split, format)
    _require_fullest(found, others)
    noted = _with_notes(dataset, found, others)
    noted.require_sound_boxes()
    return noted


def _other_formats(
    found: DiscoveredDataset, split: str, format: str | None
) -> dict[str, dict[str, SplitSource]]:
    # Only for training: the search takes longer than opening a cached data set.
    return other_formats(found) if format is None and canonical(split) == "train" else {}


def _require_fullest(
    found: DiscoveredDataset, others: Mapping[str, Mapping[str, SplitSource]]
) -> None:
    """Raise DataError if another format has objects in twice as many images, or more."""
    for name, parts in others.items():
        try:
            theirs = _annotated_images(parts)
        except DataError:  # it may be broken, since it is not read
            continue
        own, chosen = _annotated_images(found.parts), _format_of(found)
        if theirs >= max(2 * own, 1):
            raise DataError(
                f"{found.folder}: objects are in {counted(own, 'image')} as {chosen}, and in "
                f"{theirs} as {name}: choose with --format {chosen} or --format {name}"
            )


def _format_of(found: DiscoveredDataset) -> str:
    return next(iter(found.parts.values())).format


def _annotated_images(parts: Mapping[str, SplitSource]) -> int:
    """Return how many images of any split have an object."""
    names: set[str] = set()
    for part in parts.values():
        dataset = cached(part)
        has_object = np.diff(dataset.offsets) > 0
        names.update(
            name for name, has in zip(dataset.file_names(), has_object, strict=True) if has
        )
    return len(names)


def require_split(path: Path, split: str, format: str | None = None) -> None:
    """Raise DataError unless `open_dataset` could open this split, or hold images out for it.

    A single file is never divided.
    """
    parts = discover_splits(path, format)
    if any(word in parts for word in words_for(split)):
        return
    source = None if is_one_split(path, parts) else _undivided(parts, split)
    if source is None:
        raise _no_split(path, split, parts)
    divided(cached(source), canonical(split) == "val")


def _has_split(path: Path, split: str, parts: dict[str, SplitSource]) -> bool:
    """Return whether a data set has a split, or images to hold out for it."""
    if is_one_split(path, parts):
        return any(word in parts for word in words_for(split))
    return _can_open(parts, split)


def prefer_panoptic(data: str | Path, split: str, format: str | None) -> str | None:
    """Return `format`; if None, return "panoptic" where a folder has panoptic annotations.

    A folder like COCO's own also has annotations of objects, which `open_dataset` would prefer.
    """
    folder = Path(data)
    if format is not None or not folder.is_dir():
        return format
    parts = find_panoptic(folder) or find_panoptic(discover_dataset(folder).folder)
    return "panoptic" if _can_open(parts, split) else None


def is_one_split(path: Path, parts: dict[str, SplitSource]) -> bool:
    """Return whether a path is a file of annotations, which is never divided.

    A data.yaml describes a folder, whose images may be held out.
    """
    return path.is_file() and WHOLE in parts


def _opened(
    path: Path,
    split: str,
    parts: dict[str, SplitSource],
    read: Callable[[SplitSource], DetectionDataset] = cached,
) -> DetectionDataset:
    if is_one_split(path, parts):
        return read(parts[WHOLE])
    source = _undivided(parts, split)
    if source is not None:
        return divided(read(source), canonical(split) == "val")
    for word in words_for(split):
        if word in parts:
            return read(parts[word])
    raise _no_split(path, split, parts)


def _can_open(parts: dict[str, SplitSource], split: str) -> bool:
    listed = any(word in parts for word in words_for(split))
    return listed or _undivided(parts, split) is not None


def _undivided(parts: dict[str, SplitSource], split: str) -> SplitSource | None:
    """Return the images to divide into training and validation; None where `split` needs no such.

    That is the split "train", or else all images, where there is no validation split.
    """
    if "val" in parts or canonical(split) not in ("train", "val"):
        return None
    return parts.get("train", parts.get(WHOLE))


def divided(dataset: DetectionDataset, validation: bool) -> DetectionDataset:
    """Return the images of a data set that are held out for validation, or else the others.

    Raises NoSplitError where there are too few images to hold some out.
    """
    held_out = holdout_mask(dataset.file_names())
    if not held_out.any():
        if validation:
            raise NoSplitError(
                f"{dataset.source}: no validation split, and too few images to hold some out; add "
                "images"
            )
        note = "no validation split, and too few images for one"
        return replace(dataset, notes=(*dataset.notes, note))
    be = "is" if held_out.sum() == 1 else "are"
    note = (
        f"no validation split: {held_out.sum()} of the {len(held_out)} training images {be} held "
        "out for it, chosen by a hash of their file names"
    )
    unread = tuple(file for file in dataset.unread if is_held_out(file.path) == validation)
    divided = dataset.choose(np.flatnonzero(held_out if validation else ~held_out), note)
    return replace(divided, unread=unread)


def _no_split(path: Path, split: str, parts: dict[str, SplitSource]) -> NoSplitError:
    format = next(iter(parts.values())).format
    if WHOLE in parts:
        return NoSplitError(
            f"{path}: no split {split!r}: its {format} annotations are not divided into splits"
        )
    found = ", ".join(f"{name} ({part.source})" for name, part in sorted(parts.items()))
    return NoSplitError(f"{path}: no split {split!r} among its {format} annotations; found {found}")
