"""Find COCO annotations: which JSON files of a folder they are, and of which splits."""

import re
from pathlib import Path
from typing import Literal

import msgspec

from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.layout import files_in, image_folders, split_folders
from setmatch.data.splits import canonical
from setmatch.errors import DataError
from setmatch.reading import open_regular, read_bytes

Kind = Literal["coco", "panoptic"]
_SAMPLED_BYTES = 1 << 16  # read from the beginning and from the end of a file
# Where a split has several files, the first of these that matches wins.
_USUAL_NAMES = (
    r"instances_[a-z]+2017",
    r"panoptic_[a-z]+2017",
    r"_annotations\.coco",
    r"[a-z]+",
    r"(instances|panoptic)_[a-z]+",
)


def find_coco(path: Path) -> dict[str, SplitSource]:
    """Return the splits of COCO instances in a folder; a JSON file is the split "all".

    Known layouts are annotations/instances_train2017.json, train/_annotations.coco.json,
    annotations/train.json, and any JSON file with COCO's lists whose name, or whose folder's name,
    contains a word for a split. Raises DataError where two files may be meant.
    """
    return _find(path, "coco")


def find_panoptic(path: Path) -> dict[str, SplitSource]:
    """Return the splits of COCO panoptic annotations; the layouts are those of `find_coco`."""
    return _find(path, "panoptic")


def json_source(file: Path, split: str, kind: Kind) -> SplitSource:
    """Return a JSON file as the source of a split."""
    return SplitSource(kind, split, file, (file,), folders=tuple(image_folders(file)))


def kind_of(file: Path) -> Kind | None:
    """Return what a JSON file holds, judged by its first and last 64 KB; None for anything else."""
    try:
        with open_regular(file) as stream:
            text = stream.read(_SAMPLED_BYTES)
            stream.seek(max(file.stat().st_size - _SAMPLED_BYTES, 0))
            text += stream.read(_SAMPLED_BYTES)
    except OSError:
        return None
    if b'"images"' not in text:
        return None
    if b'"segments_info"' in text:
        return "panoptic"
    boxes = b'"bbox"' in text or b'"annotations"' in text
    return "coco" if boxes and b'"caption"' not in text else None


def _find(path: Path, kind: Kind) -> dict[str, SplitSource]:
    if path.is_file():
        # Not by `kind_of` alone: 128 KB of a large file need not show what it holds.
        is_json = path.suffix.lower() == ".json" or kind_of(path) is not None
        return {WHOLE: json_source(path, WHOLE, kind)} if is_json else {}
    by_split: dict[str, list[Path]] = {}
    without_split = []
    for file, split in _json_files(path):
        found = kind_of(file)
        if found is None and split is not None and _rank(file) < len(_USUAL_NAMES):
            found = _kind_of_broken(file)
        if found == kind:
            if split is None:
                without_split.append(file)
            else:
                by_split.setdefault(split, []).append(file)
    sources = {
        split: json_source(_preferred(files), split, kind) for split, files in by_split.items()
    }
    if len(without_split) == 1 and not sources:
        return {WHOLE: json_source(without_split[0], WHOLE, kind)}
    # Other names are splits of their own: minival2014 of instances_minival2014.json.
    for file in without_split:
        split = re.sub("^(instances|panoptic)_", "", file.stem)
        sources.setdefault(split, json_source(file, split, kind))
    return sources


def _kind_of_broken(file: Path) -> Kind | None:
    """Return the kind of a broken JSON file by its name; None for a file that is not broken.

    The reader then reports what is broken. Without this, another split would silently take the
    place of the broken one.
    """
    try:
        msgspec.json.decode(read_bytes(file))
    except (OSError, ValueError):
        return "panoptic" if file.stem.startswith("panoptic") else "coco"
    return None


def _json_files(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the JSON files that may be annotations, each with the split that it names, if any."""
    found = []
    for place in (folder / "annotations", folder):
        for name in files_in(place, [".json"]):
            words = re.findall("[a-z]+", Path(name).stem.lower())
            splits = {split for word in words if (split := canonical(word))}
            found.append((place / name, splits.pop() if len(splits) == 1 else None))
    for split, place in split_folders(folder).items():
        found += [(place / name, split) for name in files_in(place, [".json"])]
    return found


def _preferred(files: list[Path]) -> Path:
    ranks = [_rank(file) for file in files]
    best = [file for file, rank in zip(files, ranks, strict=True) if rank == min(ranks)]
    if len(best) > 1:
        names = ", ".join(map(str, best))
        raise DataError(f"{names}: several JSON files for the same split; name the one to use")
    return best[0]


def _rank(file: Path) -> int:
    matches = (rank for rank, name in enumerate(_USUAL_NAMES) if re.fullmatch(name, file.stem))
    return next(matches, len(_USUAL_NAMES))
