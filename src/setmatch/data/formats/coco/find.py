"""Which JSON files of a folder are COCO annotations, and of which split."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.data.formats.layout import image_folders
from setmatch.data.splits import canonical, files_in, split_folders
from setmatch.errors import DataError

Kind = Literal["coco", "panoptic"]
_READERS: dict[Kind, Callable[[Path], DetectionDataset]] = {
    "coco": read_coco,
    "panoptic": read_panoptic,
}
_SAMPLE = 1 << 16  # bytes at the beginning and the end that are looked at
# Where a split has several files, these names go first, in this order.
_USUAL = (
    r"instances_[a-z]+2017",
    r"panoptic_[a-z]+2017",
    r"_annotations\.coco",
    r"[a-z]+",
    r"(instances|panoptic)_[a-z]+",
)


def find_coco(folder: Path) -> dict[str, SplitSource]:
    """Return the splits of COCO instances in a folder.

    Known are annotations/instances_train2017.json, train/_annotations.coco.json,
    annotations/train.json, and any JSON file with COCO's lists whose own name, or whose folder's,
    has a word for the split in it. Raises DataError where two files may be meant.
    """
    return _find(folder, "coco")


def find_panoptic(folder: Path) -> dict[str, SplitSource]:
    """Return the splits of COCO panoptic annotations in a folder, found likewise."""
    return _find(folder, "panoptic")


def coco_part(source: Path, split: str, kind: Kind) -> SplitSource:
    """Return the part that a single JSON file is."""
    folders = tuple(image_folders(source))
    return SplitSource(kind, split, source, partial(_READERS[kind], source), (source,), (), folders)


def kind_of(source: Path) -> Kind | None:
    """Return what a JSON file holds, from its beginning and end; None for anything else."""
    try:
        with source.open("rb") as file:
            text = file.read(_SAMPLE)
            file.seek(max(source.stat().st_size - _SAMPLE, 0))
            text += file.read(_SAMPLE)
    except OSError:
        return None
    if b'"images"' not in text:
        return None
    if b'"segments_info"' in text:
        return "panoptic"
    boxes = b'"bbox"' in text or b'"annotations"' in text
    return "coco" if boxes and b'"caption"' not in text else None


def _find(folder: Path, kind: Kind) -> dict[str, SplitSource]:
    named: dict[str, list[Path]] = {}
    nameless = []
    for source, split in _json_files(folder):
        found = kind_of(source)
        if found is None and split is not None and _rank(source) < len(_USUAL):
            found = _meant(source)
        if found == kind:
            if split is None:
                nameless.append(source)
            else:
                named.setdefault(split, []).append(source)
    parts = {split: coco_part(_chosen(paths), split, kind) for split, paths in named.items()}
    if len(nameless) == 1 and not parts:
        return {WHOLE: coco_part(nameless[0], WHOLE, kind)}
    # Such as the split minival2014 of instances_minival2014.json.
    for source in nameless:
        split = re.sub("^(instances|panoptic)_", "", source.stem)
        parts.setdefault(split, coco_part(source, split, kind))
    return parts


def _meant(source: Path) -> Kind | None:
    """Take a file that is named like annotations, but broken, for what it was meant to be.

    Its reader then says what is wrong with it; left out, another split would silently stand in.
    """
    try:
        msgspec.json.decode(source.read_bytes())
    except (OSError, ValueError):
        return "panoptic" if source.stem.startswith("panoptic") else "coco"
    return None


def _json_files(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the JSON files that may be annotations, and their split where they name one."""
    found = []
    for place in (folder / "annotations", folder):
        for name in files_in(place, [".json"]):
            words = re.findall("[a-z]+", Path(name).stem.lower())
            splits = {split for word in words if (split := canonical(word))}
            found.append((place / name, splits.pop() if len(splits) == 1 else None))
    for split, place in split_folders(folder).items():
        found += [(place / name, split) for name in files_in(place, [".json"])]
    return found


def _chosen(paths: list[Path]) -> Path:
    ranks = [_rank(path) for path in paths]
    best = [path for path, rank in zip(paths, ranks, strict=True) if rank == min(ranks)]
    if len(best) > 1:
        names = ", ".join(map(str, best))
        raise DataError(f"{names}: annotations of the same split; name the JSON file that is meant")
    return best[0]


def _rank(path: Path) -> int:
    matches = (number for number, name in enumerate(_USUAL) if re.fullmatch(name, path.stem))
    return next(matches, len(_USUAL))
