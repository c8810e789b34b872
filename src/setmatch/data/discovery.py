"""Find the data set in a folder, and its format."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from setmatch.data.formats.base import SplitSource, UnrelatedFileError
from setmatch.data.formats.class_names import lists_of_names
from setmatch.data.formats.layout import entries, files_in, folders_below, subfolders
from setmatch.data.formats.registry import FORMATS, format_named, format_names
from setmatch.data.formats.unread_formats import describe_unread
from setmatch.data.images.image_paths import SUFFIXES
from setmatch.errors import DataError, counted, suggest

_MAX_DEPTH = 2  # folders inside folders, as in VOCdevkit/VOC2007
_MAX_CHAIN = 20  # folders with nothing but one folder inside, which count as none
_OF_TEXTS = (".json", ".jsonl", ".xml", ".txt", ".csv", ".yaml", ".yml", ".data", ".names")
_MAX_NAMES = 8  # in an error message


@dataclass(frozen=True)
class DiscoveredDataset:
    """The splits of a data set by name, and what the user should know about where they are."""

    folder: Path
    parts: dict[str, SplitSource]
    notes: tuple[str, ...] = ()


def discover_splits(path: Path, format: str | None = None) -> dict[str, SplitSource]:
    """Return the splits of a data set by name; raises DataError as `discover_dataset` does."""
    return discover_dataset(path, format).parts


def discover_dataset(path: Path, format: str | None = None) -> DiscoveredDataset:
    """Find the splits of a data set: "train", "val", "test", or other names.

    A folder is searched for every known format, or only for `format`. If it holds no data set, the
    only folder inside that does is taken, as after unpacking an archive. A single file is one data
    set, whose only split is "all" unless the file names more. Raises DataError with what was
    searched for and what was found, also where several folders inside are data sets.
    """
    if format is not None and format not in format_names():
        raise DataError(
            f"{path}: unknown format {format!r}; known formats: {', '.join(format_names())}"
        )
    if path.is_file():
        return _discovered(path, _splits_of_file(path, format))
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; {_suggestion(path)}")
    parts = _splits_of_folder(path, format)
    return _search_inside(path, format) if parts is None else _discovered(path, parts)


def _discovered(folder: Path, parts: dict[str, SplitSource], *notes: str) -> DiscoveredDataset:
    further = (note for part in parts.values() for note in part.notes)
    return DiscoveredDataset(folder, parts, tuple(dict.fromkeys((*notes, *further))))


def _splits_of_folder(folder: Path, format: str | None) -> dict[str, SplitSource] | None:
    unrelated = None
    for each in FORMATS if format is None else [format_named(format)]:
        try:
            if parts := each.find(folder):
                return parts
        except UnrelatedFileError as error:
            unrelated = error
    if unrelated is not None:
        raise unrelated
    return None


def _splits_of_file(file: Path, format: str | None) -> dict[str, SplitSource]:
    recognized = next((each for each in FORMATS if each.recognizes(file)), None)
    chosen = recognized if format is None else format_named(format)
    parts = chosen.find(file) if chosen is not None else {}
    if parts:
        return parts
    known = describe_unread(file)
    if known and format in (None, "coco", "panoptic"):
        raise DataError(known)
    if format is None:
        raise DataError(
            f"{file}: neither COCO JSON nor a data.yaml, nor a file of another known format "
            f"({', '.join(format_names())}); give one of these, or the data set's folder"
            f"{_hint(file)}"
        )
    if recognized is not None:
        raise DataError(
            f"{file}: a file of the format {recognized.name}, not {format}; leave out "
            f"--format {format}"
        )
    raise DataError(f"{file}: not a {format} data set; give the data set's folder{_hint(file)}")


def _search_inside(folder: Path, format: str | None) -> DiscoveredDataset:
    """Find the only data set inside the folders of `folder`; the shallowest level counts."""
    level = [_above_data(folder)]
    for _ in range(_MAX_DEPTH):
        level = [inner for place in level for inner in subfolders(place)]
        found: dict[Path, dict[str, SplitSource]] = {}
        problems = []
        for place in level:
            try:
                parts = _splits_of_folder(place, format)
            except DataError as error:
                problems.append(error)
                continue
            if parts is not None:
                found[place] = parts
        if len(found) > 1:
            names = _shortened([str(place.relative_to(folder)) for place in found])
            raise DataError(f"{folder}: holds several data sets ({names}); name the folder of one")
        for place, parts in found.items():
            note = f"no annotations in {folder} itself; read from {place.relative_to(folder)}/"
            if place.resolve().is_relative_to(folder.resolve()):
                # The images, and a list of classes, may lie beside the folder of the annotations.
                lists = tuple(lists_of_names(folder))
                parts = {
                    split: replace(part, root=folder, files=(*part.files, *lists))
                    for split, part in parts.items()
                }
            return _discovered(place, parts, note)
        if problems:
            raise problems[0]
    searched = FORMATS if format is None else [format_named(format)]
    raise DataError(
        f"{folder}: no annotations found, here or up to {_MAX_DEPTH} folders deep; looked for "
        f"{'; '.join(each.looks_for for each in searched)}; found {_other_format(folder, format)}"
        f"{_content(folder)}{_hint(folder) or _advice_on_images(folder)}"
    )


def _above_data(folder: Path) -> Path:
    """Return the folder itself, or a deeper one where archives have left a chain of folders."""
    for _ in range(_MAX_CHAIN):
        inner = entries(folder)
        further = entries(folder / inner[0][0]) if len(inner) == 1 and inner[0][1] else []
        if len(further) != 1 or not further[0][1]:
            return folder
        folder /= inner[0][0]
    return folder


def _hint(place: Path) -> str:
    known = describe_unread(place)
    return f"; {known}" if known else ""


def _advice_on_images(folder: Path) -> str:
    """Return what to do where a folder has photographs, and no file that may annotate them."""
    places = list(folders_below(folder, folder))
    has_images, has_texts = (
        any(files_in(place, suffixes) for place in places) for suffixes in (SUFFIXES, _OF_TEXTS)
    )
    if not has_images or has_texts:
        return ""
    return (
        "; images need annotations: draw boxes in a tool such as CVAT or Label Studio, and export "
        "COCO, YOLO or Pascal VOC"
    )


def _other_format(folder: Path, format: str | None) -> str:
    """Return the format that a folder has instead of the requested one; "" where it has none."""
    if format is not None:
        with suppress(DataError):
            return f"{next(iter(discover_splits(folder).values())).format} annotations, "
    return ""


def _suggestion(path: Path) -> str:
    """Return the file or folder that a path with a typo may mean."""
    missing = path
    while not missing.parent.is_dir():
        missing = missing.parent
    names = [name for name, _ in entries(missing.parent)]
    otherwise = "give a data set's folder or its COCO JSON"
    return suggest(missing.name, names, otherwise, prefix=str(missing).removesuffix(missing.name))


def other_formats(found: DiscoveredDataset) -> dict[str, dict[str, SplitSource]]:
    """Return the splits that other formats have in the same folder, by the format's name.

    Lists every folder of images several times: about a second for 100,000 images.
    """
    if found.folder.is_file():
        return {}
    name = next(iter(found.parts.values())).format
    family = format_named(name).family
    others = {}
    for each in FORMATS:
        if each.name != name and (family is None or each.family != family):
            with suppress(DataError):  # the other format may be broken, since it is not read
                if parts := each.find(found.folder):
                    others[each.name] = parts
    return others


def _content(folder: Path) -> str:
    listed = entries(folder)
    images = sum(name.lower().endswith(SUFFIXES) for name, _ in listed)
    names = [f"{name}/" if is_folder else name for name, is_folder in listed]
    shown = _shortened(names) if names else "nothing"
    return f"{shown} ({counted(images, 'image')})" if images else shown


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:_MAX_NAMES]) + ", ..." * (len(names) > _MAX_NAMES)
