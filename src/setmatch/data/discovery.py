"""Where in a folder a data set lies, and in which format."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.coco.find import coco_part, find_coco, find_panoptic, kind_of
from setmatch.data.formats.voc.find import find_voc
from setmatch.data.formats.yolo.find import find_yolo, yolo_parts
from setmatch.data.image_paths import SUFFIXES
from setmatch.data.splits import entries, subfolders
from setmatch.errors import DataError, closest

# Looked for in this order.
FORMATS: dict[str, Callable[[Path], dict[str, SplitSource]]] = {
    "coco": find_coco,
    "panoptic": find_panoptic,
    "yolo": find_yolo,
    "voc": find_voc,
}
_LOOKS = {
    "coco": "COCO JSON (such as annotations/train.json or train/_annotations.coco.json)",
    "panoptic": "COCO panoptic JSON",
    "yolo": "YOLO (data.yaml, or images/ beside labels/)",
    "voc": "Pascal VOC (Annotations/*.xml, or XML files beside images)",
}
_OF_ONE_KIND = {"coco", "panoptic"}  # COCO's own folder has both, and models take what they need
_DEEPEST = 2  # folders inside folders, as in VOCdevkit/VOC2007
_SHOWN = 8  # names in an error


@dataclass(frozen=True)
class DiscoveredDataset:
    """The splits of a data set, by name; `notes` say what a user should know of where they lie."""

    folder: Path
    parts: dict[str, SplitSource]
    notes: tuple[str, ...] = ()


def discover_splits(path: Path, format: str | None = None) -> dict[str, SplitSource]:
    """Return the splits that a data set has on disk, as `find_format` finds them."""
    return find_format(path, format).parts


def find_format(path: Path, format: str | None = None) -> DiscoveredDataset:
    """Find the splits of a data set: "train", "val", "test", or others by name.

    A folder is looked through for every known format, or for `format` alone; where it holds
    nothing itself, the only folder inside that does is taken, as when an archive was unpacked. Of
    a file, the suffix says what it is, and its only split is "all". Raises DataError with what was
    looked for and what was found, also where several folders inside are data sets.
    """
    if format is not None and format not in FORMATS:
        raise DataError(f"{path}: unknown format {format!r}; known are {', '.join(FORMATS)}")
    if path.is_file():
        return DiscoveredDataset(path, _parts_of_file(path, format))
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; {_meant(path)}")
    parts = _parts(path, format)
    return _inside(path, format) if parts is None else DiscoveredDataset(path, parts)


def _parts(folder: Path, format: str | None) -> dict[str, SplitSource] | None:
    names = FORMATS if format is None else (format,)
    return next((parts for name in names if (parts := FORMATS[name](folder))), None)


def _inside(folder: Path, format: str | None) -> DiscoveredDataset:
    """Find the only data set in the folders of `folder`, those nearest to it first."""
    level = [folder]
    for _ in range(_DEEPEST):
        level = [inner for place in level for inner in subfolders(place) if inner.name[0] != "."]
        found: dict[Path, dict[str, SplitSource]] = {}
        problems = []
        for place in level:
            try:
                parts = _parts(place, format)
            except DataError as error:
                problems.append(error)
                continue
            if parts is not None:
                found[place] = parts
        if len(found) > 1:
            names = ", ".join([str(place.relative_to(folder)) for place in found][:_SHOWN])
            names += ", ..." * (len(found) > _SHOWN)
            raise DataError(f"{folder}: holds several data sets ({names}); name the folder of one")
        for place, parts in found.items():
            note = f"no annotations in {folder} itself, but in {place.relative_to(folder)} inside"
            return DiscoveredDataset(place, parts, (note,))
        if problems:
            raise problems[0]
    looks = "; ".join(_LOOKS.values() if format is None else [_LOOKS[format]])
    raise DataError(
        f"{folder}: no annotations found, here or up to {_DEEPEST} folders deep; looked for "
        f"{looks}; found {_without(folder, format)}{_listing(folder)}"
    )


def _without(folder: Path, format: str | None) -> str:
    """Say what a folder is found to hold where no format is asked for, if anything."""
    if format is not None:
        with suppress(DataError):
            return f"{next(iter(find_format(folder).parts.values())).format} annotations, "
    return ""


def _meant(path: Path) -> str:
    """Say which file or folder was perhaps meant by a path that leads nowhere."""
    missing = path
    while not missing.parent.is_dir():
        missing = missing.parent
    names = [name for name, _ in entries(missing.parent)]
    similar = closest(missing.name, names)
    if similar is not None:
        return f"did you mean {missing.with_name(similar)}?"
    return "give a data set's folder or its COCO JSON"


def further_formats(found: DiscoveredDataset) -> tuple[str, ...]:
    """Say which further formats a folder holds: who knows which annotations are the good ones.

    Lists every folder of pictures some times, which takes a second for a hundred thousand.
    """
    if found.folder.is_file():
        return ()
    taken = next(iter(found.parts.values())).format
    alike = _OF_ONE_KIND if taken in _OF_ONE_KIND else {taken}
    others = []
    for name in FORMATS.keys() - alike:
        with suppress(DataError):  # what is not read need not be whole
            others += [name] if FORMATS[name](found.folder) else []
    if not others:
        return ()
    there = " and ".join(sorted(others))
    return (f"read as {taken}, but {found.folder} holds {there} annotations too: --format chooses",)


def _parts_of_file(path: Path, format: str | None) -> dict[str, SplitSource]:
    if path.suffix.lower() in (".yaml", ".yml", ".data"):
        if format not in (None, "yolo"):
            raise DataError(f"{path}: such a file is YOLO's; leave out --format {format}")
        return yolo_parts(path)
    if format in ("yolo", "voc"):
        raise DataError(f"{path}: a file; give the data set's folder to read it as {format}")
    kind = kind_of(path)
    if kind is None and path.suffix.lower() != ".json":
        raise DataError(
            f"{path}: no COCO JSON and no data.yaml; give one of these, or the data set's folder"
        )
    panoptic = format == "panoptic" or (format is None and kind == "panoptic")
    return {WHOLE: coco_part(path, WHOLE, "panoptic" if panoptic else "coco")}


def _listing(folder: Path) -> str:
    """Say in words what a folder holds."""
    listed = entries(folder)
    pictures = sum(name.lower().endswith(SUFFIXES) for name, _ in listed)
    names = [f"{name}/" if is_folder else name for name, is_folder in listed]
    shown = ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN) if names else "nothing"
    return f"{shown} ({pictures} pictures)" if pictures else shown
