"""A cache of data sets that were slow to read, memory-mapped from the user's cache folder.

A cached data set is used only while every file and folder that it was read from is unchanged. A
damaged or outdated one is silently made again: nothing is lost but time.
"""

import hashlib
import os
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setmatch.data.annotations.box_convention import ConventionDoubt
from setmatch.data.annotations.segmentations import Segmentations
from setmatch.data.cache.array_file import read_arrays, write_arrays
from setmatch.data.dataset import AnnotationFix, DetectionDataset, PanopticFiles
from setmatch.data.formats.base import SplitSource
from setmatch.data.formats.layout import folders_below
from setmatch.data.formats.missing_images import MISSING, UNCLEAR
from setmatch.data.formats.registry import format_named
from setmatch.data.images.unreadable import UnreadableFile
from setmatch.files.reading import open_regular
from setmatch.files.writing import cache_folder
from setmatch.structures.metadata import Categories

_VERSION = 20  # of the cached files; raise it with any change to what readers make of a data set
_MIN_SECONDS = 0.5  # data sets that are read faster are not cached
_SAMPLED_BYTES = 1 << 16  # of a file's beginning and end, compared besides its size and times


def cached(split: SplitSource) -> DetectionDataset:
    """Return a split from the cache, or read it and cache it if that was slow.

    It is read again when a file or folder that it names has changed, or a file was added to or
    removed from the folders of its images.
    """
    key = hashlib.sha256(os.fsencode(split.key)).hexdigest()[:32]
    path = cache_folder() / "datasets" / f"{key}.safetensors"
    dataset = _load(path)
    if dataset is not None:
        return dataset
    # Before reading, so that a change while reading makes the cached data set outdated, not wrong.
    stamps = {place: _stamp(place, deep=False) for place in (*split.files, *split.folders)}
    stamps |= {place: _stamp(place, deep=True) for place in split.listings}
    start = time.perf_counter()
    dataset = format_named(split.format).read(split)
    if time.perf_counter() - start < _MIN_SECONDS:
        return dataset
    # A damaged image may be replaced, which does not change the time of its folder.
    damaged = {Path(file.path) for file in dataset.unread}
    places = {*_image_folders(dataset), *damaged}
    if split.root and any(fix.description in (MISSING, UNCLEAR) for fix in dataset.fixes):
        places |= set(folders_below(split.root, split.root))  # where the missing ones may appear
    stamps = {place: _stamp(place, deep=False) for place in places} | stamps
    header = _header(dataset, {str(place.absolute()): stamp for place, stamp in stamps.items()})
    try:
        write_arrays(path, header, _arrays(dataset))
    except OSError:
        return dataset  # a full or read-only cache only costs time on the next call
    return _load(path) or dataset


def _load(path: Path) -> DetectionDataset | None:
    """Return a cached data set; None where there is none, or it is damaged or outdated."""
    try:
        header, arrays = read_arrays(path)
    except (OSError, ValueError):
        return None
    if header["version"] != _VERSION:
        return None
    for name, stamp in header["stamps"].items():
        if _stamp(Path(name), deep=stamp.startswith("every")) != stamp:
            return None
    return _dataset(header, arrays)


def _stamp(path: Path, deep: bool) -> str:
    """Return text that changes with a file, or with the names in a folder.

    `deep` includes the size and times of every file in the folder.
    """
    try:
        status = path.stat()
        if not path.is_dir():
            return f"file {status.st_size} {_times(status)} {_sample(path, status.st_size)}"
        if not deep:
            return f"folder {_times(status)}"
        digest = hashlib.sha256()
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                about = entry.stat()
                digest.update(os.fsencode(f"{entry.name}\0{about.st_size} {_times(about)}\0"))
        return f"every {digest.hexdigest()}"
    except OSError:
        return "absent"


def _times(status: os.stat_result) -> str:
    """Return when the content changed, which can be set back, and when anything did, which cannot.

    On Windows the latter is when the file was made.
    """
    return f"{status.st_mtime_ns} {status.st_ctime_ns}"


def _sample(path: Path, size: int) -> str:
    with open_regular(path) as file:
        digest = hashlib.sha256(file.read(_SAMPLED_BYTES))
        file.seek(max(size - _SAMPLED_BYTES, 0))
        digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()


def _image_folders(dataset: DetectionDataset) -> set[Path]:
    if b"/" not in dataset.names:
        return {dataset.images}
    return {dataset.path(image).parent for image in range(len(dataset))}


def _header(dataset: DetectionDataset, stamps: dict[str, str]) -> dict[str, Any]:
    categories, panoptic = dataset.categories, dataset.panoptic
    return {
        "version": _VERSION,
        "stamps": stamps,
        "source": str(dataset.source),
        "images": str(dataset.images),
        "categories": [categories.ids, categories.names, sorted(categories.stuff)],
        "fixes": [list(asdict(fix).values()) for fix in dataset.fixes],
        "notes": dataset.notes,
        "annotations_read": dataset.annotations_read,
        "unread": [list(asdict(file).values()) for file in dataset.unread],
        "convention_doubt": dataset.convention_doubt and asdict(dataset.convention_doubt),
        "panoptic": None if panoptic is None else str(panoptic.folder),
    }


def _arrays(dataset: DetectionDataset) -> dict[str, NDArray[Any]]:
    arrays = {}
    parts = {
        "dataset": dataset,
        "segmentations": dataset.segmentations,
        "panoptic": dataset.panoptic,
    }
    for part, holder in parts.items():
        for field in fields(holder) if holder is not None else ():
            value = getattr(holder, field.name)
            if isinstance(value, bytes):
                value = np.frombuffer(value, dtype=np.uint8)
            if isinstance(value, np.ndarray):
                arrays[f"{part}.{field.name}"] = value
    return arrays


def _dataset(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> DetectionDataset:
    def columns(part: str) -> dict[str, Any]:
        names = [name for name in arrays if name.startswith(f"{part}.")]
        found: dict[str, Any] = {name.partition(".")[2]: arrays[name] for name in names}
        # File names are copied, because they are bytes; they are the smallest part.
        return found | ({"names": found["names"].tobytes()} if "names" in found else {})

    (ids, names, stuff), doubt = header["categories"], header["convention_doubt"]
    dataset = DetectionDataset(
        source=Path(header["source"]),
        images=Path(header["images"]),
        categories=Categories(tuple(ids), tuple(names), frozenset(stuff)),
        fixes=tuple(AnnotationFix(*fix) for fix in header["fixes"]),
        notes=tuple(header["notes"]),
        annotations_read=header["annotations_read"],
        unread=tuple(UnreadableFile(*file) for file in header["unread"]),
        convention_doubt=doubt and ConventionDoubt(**doubt),
        **columns("dataset"),
    )
    segmentations, panoptic = columns("segmentations"), columns("panoptic")
    if segmentations:
        dataset = replace(dataset, segmentations=Segmentations(**segmentations))
    if panoptic:
        folder = Path(header["panoptic"])
        dataset = replace(dataset, panoptic=PanopticFiles(folder=folder, **panoptic))
    return dataset
