"""Which split of which format a folder or file holds, and its Index."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from setmatch.data.cache import cached
from setmatch.data.dataset import DetectionDataset
from setmatch.data.discovery import discover_splits, find_format, further_formats
from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.coco.find import find_panoptic
from setmatch.data.ragged import unpack
from setmatch.data.splits import canonical, holdout_mask, words_for
from setmatch.errors import DataError


class NoSplitError(DataError):
    """A data set has no such split, and no images to make it from."""


def open_dataset(data: str | Path, split: str, format: str | None = None) -> DetectionDataset:
    """Open a split of a data set; a single file is one split, whichever is asked for.

    Where there is no validation split, the training images are divided by a hash of their names,
    and the index' notes say so. Raises DataError with what was looked for and found.
    """
    path = Path(data)
    found = find_format(path, format)
    index = _opened(path, split, found.parts)
    # Asked only by who learns: it takes longer than opening what is in the cache.
    others = further_formats(found) if format is None and canonical(split) == "train" else ()
    return replace(index, notes=(*found.notes, *others, *index.notes))


def _opened(path: Path, split: str, parts: dict[str, SplitSource]) -> DetectionDataset:
    if path.is_file() and WHOLE in parts:
        return cached(parts[WHOLE])
    source = _to_divide(parts, split)
    if source is not None:
        return _divided(cached(source), canonical(split) == "val")
    for word in words_for(split):
        if word in parts:
            return cached(parts[word])
    raise _no_split(path, split, parts)


def _to_divide(parts: dict[str, SplitSource], split: str) -> SplitSource | None:
    """Return what training and validation images are both taken from, where `split` is of these."""
    if "val" in parts or canonical(split) not in ("train", "val"):
        return None
    return parts.get("train", parts.get(WHOLE))


def _no_split(path: Path, split: str, parts: dict[str, SplitSource]) -> NoSplitError:
    kind = next(iter(parts.values())).format
    if WHOLE in parts:
        return NoSplitError(
            f"{path}: no split {split!r}, since nothing divides its {kind} annotations"
        )
    found = ", ".join(f"{name} ({part.source})" for name, part in sorted(parts.items()))
    return NoSplitError(f"{path}: no split {split!r} among its {kind} annotations; found {found}")


def require_split(path: Path, split: str, format: str | None = None) -> None:
    """Make sure that a data set has a split, or that one can be made; a single file is not divided.

    Raises DataError with what was looked for and found, as `open_dataset` would.
    """
    parts = discover_splits(path, format)
    if any(word in parts for word in words_for(split)):
        return
    source = None if path.is_file() else _to_divide(parts, split)
    if source is None:
        raise _no_split(path, split, parts)
    _divided(cached(source), canonical(split) == "val")


def prefer_panoptic(data: str | Path, split: str, format: str | None) -> str | None:
    """Return `format`; where none is named, "panoptic" if a folder has such annotations of `split`.

    A folder as COCO's own has those of objects as well, which `open_dataset` takes first.
    """
    folder = Path(data)
    if format is not None or not folder.is_dir():
        return format
    parts = find_panoptic(folder) or find_panoptic(find_format(folder).folder)
    return "panoptic" if _names(parts, split) else None


def has_split(path: Path, split: str, format: str | None = None) -> bool:
    """Return whether a data set has a split, or images to make it from; none of them is read."""
    parts = discover_splits(path, format)
    if path.is_file():
        return any(word in parts for word in words_for(split))
    return _names(parts, split)


def _names(parts: dict[str, SplitSource], split: str) -> bool:
    named = any(word in parts for word in words_for(split))
    return named or _to_divide(parts, split) is not None


def _out(index: DetectionDataset) -> Bool[np.ndarray, " N"]:
    return holdout_mask(unpack(index.names, index.name_offsets))


def _divided(index: DetectionDataset, validation: bool) -> DetectionDataset:
    out = _out(index)
    if not out.any():
        if validation:
            raise NoSplitError(
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
