"""Indexes that were read before, kept in the user's cache folder and mapped from there.

A kept dataset is used only while every file and folder that it was read from is unchanged. One that
is damaged or out of date is made again without a word: nothing is lost but time.
"""

import hashlib
import os
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setmatch.data.array_file import read_arrays, write_arrays
from setmatch.data.dataset import AnnotationFix, DetectionDataset, PanopticFiles
from setmatch.data.formats.base import SplitSource
from setmatch.data.formats.missing_images import UNREADABLE
from setmatch.data.segmentations import Segmentations
from setmatch.files import cache_folder
from setmatch.structures.metadata import Categories

_FORMAT = 6  # of the kept files; to be raised with any change to what readers make of a data set
_WORTH_S = 0.5  # what is read quicker is not kept
_SAMPLE = 1 << 16  # bytes of a file's beginning and end that count besides its size and time


def cached(part: SplitSource) -> DetectionDataset:
    """Return the dataset of a split: from the cache, or read and then cached if reading is slow.

    Besides what the part names, the folders of its images count, by which files are there.
    """
    path = (
        cache_folder() / "datasets" / f"{hashlib.sha256(part.key.encode()).hexdigest()[:32]}.index"
    )
    kept = _kept(path)
    if kept is not None:
        return kept
    # Before reading: a change while reading makes the kept dataset stale, not wrong.
    stamps = {place: _stamp(place, deep=False) for place in (*part.files, *part.folders)}
    stamps |= {place: _stamp(place, deep=True) for place in part.listings}
    start = time.perf_counter()
    dataset = part.read()
    if time.perf_counter() - start < _WORTH_S:
        return dataset
    # An image that could not be read may be mended in place, which no folder notices.
    damaged = {dataset.images / each.file for each in dataset.fixes if each.done == UNREADABLE}
    places = {*_image_folders(dataset), *damaged}
    stamps = {place: _stamp(place, deep=False) for place in places} | stamps
    header = _header(dataset, {str(place.absolute()): stamp for place, stamp in stamps.items()})
    try:
        write_arrays(path, header, _arrays(dataset))
    except OSError:
        return dataset  # a full or read-only cache costs time, and only the next time
    return _kept(path) or dataset


def _kept(path: Path) -> DetectionDataset | None:
    try:
        header, arrays = read_arrays(path)
    except (OSError, ValueError):
        return None
    if header["format"] != _FORMAT:
        return None
    for name, stamp in header["stamps"].items():
        if _stamp(Path(name), deep=stamp.startswith("every")) != stamp:
            return None
    return _index(header, arrays)


def _stamp(path: Path, deep: bool) -> str:
    """Return what changes when a file does, or what is in a folder."""
    try:
        status = path.stat()
        if not path.is_dir():
            return f"file {status.st_size} {status.st_mtime_ns} {_sample(path, status.st_size)}"
        if not deep:
            return f"folder {status.st_mtime_ns}"
        digest = hashlib.sha256()
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                about = entry.stat()
                digest.update(f"{entry.name}\0{about.st_size} {about.st_mtime_ns}\0".encode())
        return f"every {digest.hexdigest()}"
    except OSError:
        return "absent"


def _sample(path: Path, size: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_SAMPLE))
        file.seek(max(size - _SAMPLE, 0))
        digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _image_folders(dataset: DetectionDataset) -> set[Path]:
    if b"/" not in dataset.names:
        return {dataset.images}
    return {dataset.path(image).parent for image in range(len(dataset))}


def _header(dataset: DetectionDataset, stamps: dict[str, str]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "stamps": stamps,
        "source": str(dataset.source),
        "images": str(dataset.images),
        "categories": [
            dataset.categories.ids,
            dataset.categories.names,
            sorted(dataset.categories.stuff),
        ],
        "fixes": [list(asdict(fix).values()) for fix in dataset.fixes],
        "notes": dataset.notes,
        "panoptic": None if dataset.panoptic is None else str(dataset.panoptic.folder),
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


def _index(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> DetectionDataset:
    def columns(part: str) -> dict[str, Any]:
        names = [name for name in arrays if name.startswith(f"{part}.")]
        found: dict[str, Any] = {name.partition(".")[2]: arrays[name] for name in names}
        # A copy, because packed names are bytes; they are the smallest part.
        return found | ({"names": found["names"].tobytes()} if "names" in found else {})

    ids, names, stuff = header["categories"]
    dataset = DetectionDataset(
        source=Path(header["source"]),
        images=Path(header["images"]),
        categories=Categories(tuple(ids), tuple(names), frozenset(stuff)),
        fixes=tuple(AnnotationFix(*fix) for fix in header["fixes"]),
        notes=tuple(header["notes"]),
        **columns("dataset"),
    )
    segmentations, panoptic = columns("segmentations"), columns("panoptic")
    if segmentations:
        dataset = replace(dataset, segmentations=Segmentations(**segmentations))
    if panoptic:
        folder = Path(header["panoptic"])
        dataset = replace(dataset, panoptic=PanopticFiles(folder=folder, **panoptic))
    return dataset
