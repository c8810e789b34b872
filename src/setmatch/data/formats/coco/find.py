"""Find COCO annotations: which JSON files of a folder they are, and of which splits."""

import codecs
import filecmp
import mmap
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec

from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.coco.layout import default_root, image_folders
from setmatch.data.formats.coco.merge import are_parts
from setmatch.data.formats.layout import ANNOTATION_FOLDERS, common_folder, files_in, subfolders
from setmatch.data.formats.unread_formats import describe_unread
from setmatch.data.splits import split_in
from setmatch.errors import DataError
from setmatch.files.reading import open_regular, read_json

Kind = Literal["coco", "panoptic"]
_SHOWN = 4  # files in a note
_SAMPLED_BYTES = 1 << 16  # of the first annotations, which tell their kind
_MARKS_OF_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# If a split has several files, the first of these patterns that matches wins.
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
    labels/train.json, images_train/coco.json, and any JSON file with COCO's lists whose name, or
    whose folder's name, contains a word for a split. Raises DataError where two files may be meant.
    """
    return _find(path, "coco")


def find_panoptic(path: Path) -> dict[str, SplitSource]:
    """Return the splits of COCO panoptic annotations; the layouts are those of `find_coco`."""
    return _find(path, "panoptic")


def json_source(file: Path, split: str, kind: Kind, root: Path | None = None) -> SplitSource:
    """Return a JSON file as the source of a split; `root` is the folder of its data set."""
    root = default_root(file) if root is None else root
    folders = (root, *image_folders(file, root))
    return SplitSource(kind, split, file, (file,), folders=folders, root=root)


def kind_of(file: Path) -> Kind | None:
    """Return what a JSON file holds, wherever in it COCO's lists are; None for anything else."""
    try:
        with open_regular(file) as stream:
            if b"\0" in stream.peek(4)[:4] or stream.peek(2)[:2] in _MARKS_OF_UTF_16:
                return _kind_of_text(read_json(file))
            # Mapped, because the second list of a large file may begin anywhere.
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
                return _kind_of_text(text)
    except (OSError, ValueError):  # unreadable, or empty
        return None


def _kind_of_text(text: bytes | mmap.mmap) -> Kind | None:
    start = _place_of_key(text, b'"annotations"')
    if start < 0:
        start = _place_of_key(text, b'"bbox"')
    if start < 0 or _place_of_key(text, b'"images"') < 0:
        return None
    some = text[start : start + _SAMPLED_BYTES]
    if b'"segments_info"' in some:
        return "panoptic"
    return None if b'"caption"' in some and b'"bbox"' not in some else "coco"


def _place_of_key(text: bytes | mmap.mmap, key: bytes) -> int:
    """Return where a key stands, with a colon behind it; -1 where it does not."""
    start = text.find(key)
    while start >= 0 and not text[start + len(key) : start + 99].lstrip().startswith(b":"):
        start = text.find(key, start + 1)
    return start


def _find(path: Path, kind: Kind) -> dict[str, SplitSource]:
    if path.is_file():
        # Not by `kind_of` alone: a broken file may not show what it holds.
        is_json = kind_of(path) is not None
        is_json = is_json or (path.suffix.lower() == ".json" and not describe_unread(path))
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
    sources = {split: _preferred(files, split, kind, path) for split, files in by_split.items()}
    if not sources:
        whole = _as_one(without_split, WHOLE, kind, path)
        if whole is not None:
            return {WHOLE: _noting_others(whole, without_split, path, "the data set")}
    # Other names are splits of their own: minival2014 of instances_minival2014.json.
    for file in without_split:
        split = re.sub("^(instances|panoptic)_", "", file.stem)
        sources.setdefault(split, json_source(file, split, kind, path))
    return sources


def _kind_of_broken(file: Path) -> Kind | None:
    """Return the kind of a broken JSON file by its name; None for a file that is not broken.

    The reader then reports what is broken. Without this, another split would silently take the
    place of the broken one.
    """
    try:
        msgspec.json.decode(read_json(file))
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return "panoptic" if file.stem.startswith("panoptic") else "coco"
    return None


def _json_files(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the JSON files that may be annotations, each with the split that it names, if any."""
    return [
        (place / name, split or split_in(Path(name).stem))
        for place, split in _places(folder)
        for name in files_in(place, [".json"])
    ]


def _places(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the folders that may hold annotations, each with the split that it names, if any.

    They are the folder itself, those inside that are named after annotations or splits, and folders
    of the one kind in folders of the other.
    """
    inner = subfolders(folder)
    for place in filter(_of_annotations, inner):
        yield place, None
        for deeper in subfolders(place):
            if split := split_in(deeper.name):
                yield deeper, split
    yield folder, None
    for place in inner:
        if split := split_in(place.name):
            yield place, split
            for deeper in filter(_of_annotations, subfolders(place)):
                yield deeper, split


def _of_annotations(folder: Path) -> bool:
    return folder.name.lower() in ANNOTATION_FOLDERS


def _preferred(files: Sequence[Path], split: str, kind: Kind, root: Path) -> SplitSource:
    """Return the likeliest of a split's files; raises DataError where several may be meant."""
    ranks = [_rank(file) for file in files]
    best = [file for file, rank in zip(files, ranks, strict=True) if rank == min(ranks)]
    source = _as_one(best, split, kind, root)
    if source is None:
        names = ", ".join(map(str, best))
        raise DataError(
            f"{names}: several JSON files for the split {split!r}; name the one to use, as in "
            f"`setmatch audit {shlex.quote(str(best[0]))}`, or move the others away"
        )
    return _noting_others(source, files, root, f"split {split!r}")


def _noting_others(
    source: SplitSource, files: Sequence[Path], root: Path, what: str
) -> SplitSource:
    """Return a source that says which of the files that may be meant are not read."""
    names = [str(file.relative_to(root)) for file in source.files]
    others = [str(file.relative_to(root)) for file in files if file not in source.files]
    notes = []
    if len(names) > 1:
        are = (
            f"{what} is read from {len(names)} files, whose objects are of other classes or images"
        )
        notes.append(f"{are}: {_shown(names)}")
    if others:
        notes.append(f"{what} is read from {_shown(names)}, not from {', '.join(others)}")
    return replace(source, notes=tuple(notes))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)


def _as_one(files: Sequence[Path], split: str, kind: Kind, root: Path) -> SplitSource | None:
    """Return files as one source if they are parts of one data set, or copies; None otherwise."""
    different: list[Path] = []
    for file in files:
        if not any(filecmp.cmp(file, other, shallow=False) for other in different):
            different.append(file)
    if len(different) == 1:
        return json_source(different[0], split, kind, root)
    if kind != "coco" or not different or not are_parts(different):
        return None
    source, parts = json_source(different[0], split, kind, root), tuple(different)
    return replace(source, source=common_folder(parts), files=parts, details=parts)


def _rank(file: Path) -> int:
    matches = (rank for rank, name in enumerate(_USUAL_NAMES) if re.fullmatch(name, file.stem))
    return next(matches, len(_USUAL_NAMES))
