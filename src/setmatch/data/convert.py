"""Convert a data set from any format to any other that can be written, whole or not at all."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from setmatch.data.cache.cache import cached
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.discovery import discover_dataset
from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.missing_images import UNREADABLE, drop_missing, missing_images_note
from setmatch.data.formats.registry import format_named, writable_formats
from setmatch.data.formats.writing import SplitToWrite
from setmatch.data.images.corrupt_files import find_unreadable
from setmatch.data.images.unreadable import unreadable_line
from setmatch.data.open import divided, in_convention, is_one_split
from setmatch.data.own_folder import require_own_folder
from setmatch.data.splits import SPLITS, words_for
from setmatch.errors import ConfigError, DataError, quoted
from setmatch.files.reading import require_regular
from setmatch.files.writing import atomic_folder, require_folder


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote: images and annotations by split; `notes` says what was lost."""

    folder: Path
    images: dict[str, int]
    annotations: dict[str, int]
    fixes: tuple[AnnotationFix, ...]
    notes: tuple[str, ...]


def convert_dataset(
    source: str | Path,
    destination: str | Path,
    to: str,
    splits: Sequence[str] = (),
    format: str | None = None,
    link: bool = False,
    boxes: str | None = None,
    images: str | Path | None = None,
) -> Conversion:
    """Write a data set in the format `to`: the given splits, or else train, val and test.

    Boxes stay exact in COCO and VOC, and within a millionth of a pixel in YOLO. Images are copied,
    or linked with `link`; `images` is their folder, where the annotations may mean several. A data
    set without splits becomes the split "train"; for formats whose tools need a validation split,
    as YOLO's do, the images that training would hold out become "val". `boxes` names the convention
    of the boxes in `source`, as in `open_dataset`. Raises ConfigError for an unknown format or a
    `destination` that is not empty, and DataError for a `source` that cannot be read, or whose
    boxes are probably of another convention.
    """
    source, destination = Path(source), Path(destination)
    if to not in writable_formats():
        known = ", ".join(writable_formats())
        raise ConfigError(f"--to {to}: unknown format; known formats: {known}")
    target = format_named(to)
    assert target.write is not None, "writable_formats names only formats that can be written"
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ConfigError(f"{destination}: exists already; name a new or empty folder")
    require_folder(destination)
    require_own_folder(source, destination)
    found = discover_dataset(source, format)
    parts = _chosen(source, in_convention(found.parts, boxes), splits)
    if images is not None:
        parts = {name: _reading_from(Path(images), part) for name, part in parts.items()}
    datasets = {name: cached(part) for name, part in parts.items()}
    for dataset in datasets.values():
        dataset.require_sound_boxes()
    unreadable = _unreadable_line(datasets.values())
    datasets = {name: _with_image_files(dataset) for name, dataset in datasets.items()}
    if target.needs_val_split and not splits and not is_one_split(source, found.parts):
        datasets = _with_val_split(datasets)
    to_write = [SplitToWrite(name, dataset, link) for name, dataset in datasets.items()]
    try:
        with atomic_folder(destination) as temporary:
            losses = target.write(temporary, to_write)
    except OSError as error:
        raise DataError(f"{destination}: cannot be written ({error.strerror or error})") from None
    notes = [*found.notes, *(note for dataset in datasets.values() for note in dataset.notes)]
    notes += filter(None, [unreadable])
    others = sorted(set(found.parts) - set(parts) - {WHOLE})
    if others and not splits:
        notes.append(f"not converted: {quoted(others)}; name a split with --split")
    return Conversion(
        destination,
        {name: len(dataset) for name, dataset in datasets.items()},
        {name: len(dataset.class_indices) for name, dataset in datasets.items()},
        tuple(fix for dataset in datasets.values() for fix in dataset.fixes),
        tuple(dict.fromkeys([*notes, *losses])),
    )


def _unreadable_line(datasets: Collection[DetectionDataset]) -> str:
    files = {file for dataset in datasets for file in dataset.unread}
    images = sum(map(len, datasets)) + len(files)
    return unreadable_line(
        chain(files, *(find_unreadable(dataset).values() for dataset in datasets)), images
    )


def _with_image_files(dataset: DetectionDataset) -> DetectionDataset:
    """Return the images whose files can be copied; few others are left out, many refused."""
    absent, kept = [], []
    for image in range(len(dataset)):
        try:
            require_regular(dataset.path(image))
            kept.append(image)
        except OSError:
            name = dataset.name(image)
            absent.append(AnnotationFix(name, None, name, UNREADABLE))
    if not absent:
        return dataset
    fixes: list[AnnotationFix] = []
    drop_missing(dataset.images, absent, len(dataset), fixes)
    chosen = dataset.choose(np.array(kept), *missing_images_note(fixes, len(kept)))
    return replace(chosen, fixes=(*dataset.fixes, *fixes))


def _reading_from(images: Path, part: SplitSource) -> SplitSource:
    """Return a split whose images are in the folder that the user chose."""
    if not images.is_dir():
        raise DataError(f"--images {images}: no such folder; name the folder of the image files")
    if not format_named(part.format).takes_images:
        raise ConfigError(
            f"--images {images}: {part.format} labels belong to the images beside them; leave it "
            "out, or correct the paths of the images"
        )
    return replace(part, images=images)


def _with_val_split(datasets: dict[str, DetectionDataset]) -> dict[str, DetectionDataset]:
    """Return the splits with a "val" one, where images can be held out for it."""
    if "train" not in datasets or "val" in datasets:
        return datasets
    training = divided(datasets["train"], validation=False)
    if len(training) == len(datasets["train"]):  # too few images, as its notes say
        return datasets | {"train": training}
    return datasets | {"train": training, "val": divided(datasets["train"], validation=True)}


def _chosen(
    source: Path, parts: dict[str, SplitSource], splits: Sequence[str]
) -> dict[str, SplitSource]:
    if not splits:
        if WHOLE in parts:
            return {"train": parts[WHOLE]}
        usual = {name: parts[name] for name in SPLITS if name in parts}
        return usual or parts
    chosen: dict[str, SplitSource] = {}
    for split in splits:
        name = next((word for word in words_for(split) if word in parts), None)
        if name is None:
            found = ", ".join(sorted(parts))
            raise DataError(f"{source}: no split {split!r}; found {found}")
        chosen[name] = parts[name]
    return chosen
