"""Which split of which format a folder or file holds, and its Index."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from setmatch.data.cache import cached
from setmatch.data.folders import canonical, entries, words_for
from setmatch.data.formats.coco_parts import coco_part, find_coco, find_panoptic, kind_of
from setmatch.data.formats.voc_parts import find_voc
from setmatch.data.formats.yolo_parts import find_yolo, yolo_parts
from setmatch.data.holdout import held_out
from setmatch.data.index import Index
from setmatch.data.parts import WHOLE, Part
from setmatch.data.pictures import SUFFIXES
from setmatch.data.ragged import unpack
from setmatch.errors import DataError

# Looked for in this order.
FORMATS: dict[str, Callable[[Path], dict[str, Part]]] = {
    "coco": find_coco,
    "panoptic": find_panoptic,
    "yolo": find_yolo,
    "voc": find_voc,
}
_LOOKS = {
    "coco": "COCO JSON (such as annotations/train.json or train/_annotations.coco.json)",
    "panoptic": "COCO panoptic JSON",
    "yolo": "YOLO (data.yaml, or images/ beside labels/)",
    "voc": "Pascal VOC (Annotations/*.xml)",
}


def find_parts(path: Path, format: str | None = None) -> dict[str, Part]:
    """Return the splits that a data set has on disk: "train", "val", "test", or others by name.

    A folder is looked through for every known format, or for `format` alone; of a file, the suffix
    says what it is, and its only split is "all". Raises DataError with what was looked for and
    what was found.
    """
    if format is not None and format not in FORMATS:
        raise DataError(f"{path}: unknown format {format!r}; known are {', '.join(FORMATS)}")
    if path.is_file():
        return _parts_of_file(path, format)
    if not path.is_dir():
        raise DataError(
            f"{path}: no such file or folder; give a data set's folder or its COCO JSON"
        )
    for name in FORMATS if format is None else (format,):
        parts = FORMATS[name](path)
        if parts:
            return parts
    looks = "; ".join(_LOOKS.values() if format is None else [_LOOKS[format]])
    raise DataError(f"{path}: no annotations found; looked for {looks}; found {_found(path)}")


def open_dataset(data: str | Path, split: str, format: str | None = None) -> Index:
    """Open a split of a data set; a single file is one split, whichever is asked for.

    Where there is no validation split, the training images are divided by a hash of their names,
    and the index' notes say so. Raises DataError with what was looked for and found.
    """
    path = Path(data)
    parts = find_parts(path, format)
    if path.is_file() and WHOLE in parts:
        return cached(parts[WHOLE])
    source = _to_divide(parts, split)
    if source is not None:
        return _divided(cached(source), canonical(split) == "val")
    for word in words_for(split):
        if word in parts:
            return cached(parts[word])
    raise _no_split(path, split, parts)


def _to_divide(parts: dict[str, Part], split: str) -> Part | None:
    """Return what training and validation images are both taken from, where `split` is of these."""
    if "val" in parts or canonical(split) not in ("train", "val"):
        return None
    return parts.get("train", parts.get(WHOLE))


def _no_split(path: Path, split: str, parts: dict[str, Part]) -> DataError:
    kind = next(iter(parts.values())).format
    found = ", ".join(f"{name} ({part.source})" for name, part in sorted(parts.items()))
    return DataError(f"{path}: no split {split!r} among its {kind} annotations; found {found}")


def require_split(path: Path, split: str, format: str | None = None) -> None:
    """Make sure that a data set has a split, or that one can be made; a single file is not divided.

    Raises DataError with what was looked for and found, as `open_dataset` would.
    """
    parts = find_parts(path, format)
    if any(word in parts for word in words_for(split)):
        return
    source = None if path.is_file() else _to_divide(parts, split)
    if source is None:
        raise _no_split(path, split, parts)
    _divided(cached(source), canonical(split) == "val")


def format_with_stuff(data: str | Path, split: str, format: str | None) -> str | None:
    """Return `format`; where none is named, "panoptic" if a folder has such annotations of `split`.

    A folder as COCO's own has those of objects as well, which `open_dataset` takes first.
    """
    folder = Path(data)
    if format is not None or not folder.is_dir():
        return format
    return "panoptic" if _names(find_panoptic(folder), split) else None


def names_split(path: Path, split: str, format: str | None = None) -> bool:
    """Return whether a data set has a split, or images to make it from; none of them is read."""
    parts = find_parts(path, format)
    if path.is_file():
        return any(word in parts for word in words_for(split))
    return _names(parts, split)


def _names(parts: dict[str, Part], split: str) -> bool:
    named = any(word in parts for word in words_for(split))
    return named or _to_divide(parts, split) is not None


def _out(index: Index) -> Bool[NDArray[np.bool_], " N"]:
    return held_out(unpack(index.names, index.name_offsets))


def _divided(index: Index, validation: bool) -> Index:
    out = _out(index)
    if not out.any():
        if validation:
            raise DataError(
                f"{index.source}: no validation split, and too few images to hold some out"
            )
        return replace(
            index, notes=(*index.notes, "no validation split, and too few images for one")
        )
    note = (
        f"no validation split: {out.sum()} of the {len(out)} training images are held out for it, "
        "chosen by a hash of their file names"
    )
    return index.choose(np.flatnonzero(out if validation else ~out), note)


def _parts_of_file(path: Path, format: str | None) -> dict[str, Part]:
    if path.suffix.lower() in (".yaml", ".yml") and format in (None, "yolo"):
        return yolo_parts(path)
    if format in ("yolo", "voc"):
        raise DataError(f"{path}: a file; give the data set's folder to read it as {format}")
    panoptic = format == "panoptic" or (format is None and kind_of(path) == "panoptic")
    return {WHOLE: coco_part(path, WHOLE, "panoptic" if panoptic else "coco")}


def _found(folder: Path) -> str:
    """Say in words what a folder holds."""
    listed = entries(folder)
    pictures = sum(name.lower().endswith(SUFFIXES) for name, _ in listed)
    names = [f"{name}/" if is_folder else name for name, is_folder in listed]
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
    return f"{shown} ({pictures} pictures)" if pictures else shown
