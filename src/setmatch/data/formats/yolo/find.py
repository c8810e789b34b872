"""Find YOLO data sets: which folders hold images and labels, and of which splits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.formats.base import WHOLE, SplitSource, UnrelatedFileError
from setmatch.data.formats.class_names import (
    free_lists,
    lists_of_names,
    longest_list,
    names_in,
    read_names,
)
from setmatch.data.formats.layout import (
    files_in,
    folders_below,
    folders_named,
    folders_of_splits,
)
from setmatch.data.formats.locate_images import LocatedImages, SearchArea
from setmatch.data.formats.other_suffixes import locate_photographs
from setmatch.data.formats.written_paths import written_parts
from setmatch.data.formats.yolo.choose_yaml import choose_yaml
from setmatch.data.formats.yolo.data_yaml import (
    DARKNET_FOLDERS,
    DataYaml,
    names_alone,
    read_data_yaml,
)
from setmatch.data.formats.yolo.data_yaml import SUFFIXES as YAML_SUFFIXES
from setmatch.data.formats.yolo.label_files import labels_of, note_other_names
from setmatch.data.formats.yolo.label_places import (
    has_labels,
    label_folder,
    require_one_owner,
)
from setmatch.data.formats.yolo.read import read_yolo
from setmatch.data.formats.yolo.split_labels import SplitLabels, split_labels
from setmatch.data.images.image_paths import SUFFIXES
from setmatch.data.splits import canonical, split_of_list
from setmatch.errors import DataError, quoted
from setmatch.files.reading import read_bytes, read_text

_OF_VOC = "jpegimages"
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", _OF_VOC)  # in small letters


@dataclass(frozen=True)
class YoloSplit:
    """A split's images, and the source of its class names."""

    sources: tuple[Path, ...]  # folders of images, or text files that list images
    names: tuple[str, ...] | None  # from a data.yaml
    name_folders: tuple[Path, ...] = ()  # folders that may hold a classes.txt
    moved: tuple[str, ...] = ()  # paths of a data.yaml that are elsewhere than written
    keypoints: tuple[int, int] | None = None  # kpt_shape of a data.yaml
    first_class: int = 0  # number of the first class in the labels
    labels: Path | None = None  # the split's labels, where its images lie among those of others


def find_yolo(path: Path) -> dict[str, SplitSource]:
    """Return the splits of YOLO labels in a folder, or those that a data.yaml names.

    Known layouts are a data.yaml (or another YAML file with `names` and `train`), darknet's
    obj.data, images/train with labels/train, train/images with train/labels, text files beside the
    images, and images/ with labels/. The last two may be divided by lists of images, train.txt and
    val.txt. Raises DataError for YAML that is broken or contradicts itself.
    """
    if path.is_file():
        named = path.suffix.lower() in YAML_SUFFIXES
        return _from_data_yaml(read_data_yaml(path)) if named else {}
    try:
        chosen = choose_yaml(path, path)
    except UnrelatedFileError:
        found = _without_yaml(path)
        # Class names would otherwise be lost in silence: the broken file may hold them.
        if not found or not any(map(read_names, next(iter(found.values())).details.name_folders)):
            raise
        return found
    if chosen is not None:
        return _from_data_yaml(chosen.config, chosen.notes)
    files = [path / name for name in files_in(path, YAML_SUFFIXES)]
    lists = {file: names for file in files if (names := names_alone(file))}
    found = _without_yaml(path, longest_list([(str(file), lists[file]) for file in lists]))
    return {
        split: replace(source, files=(*source.files, *lists)) for split, source in found.items()
    }


def read_split(split: SplitSource) -> DetectionDataset:
    """Read a split that `find_yolo` found; raises DataError as `read_yolo` does."""
    if isinstance(split.details, DataError):
        raise split.details
    here: YoloSplit = split.details
    root = split.root or split.source
    fixes = []
    if here.moved:
        value = f"{len(here.moved)} paths of the YAML file, the first {here.moved[0]}"
        description = "folder's path of another place: found by its last parts"
        fixes.append(AnnotationFix.of_many(value, description))
    if here.first_class:
        value = f"classes numbered from {here.first_class}, as the YAML file has them"
        fixes.append(
            AnnotationFix.of_many(value, "classes not numbered from 0: read by their names")
        )
    found = _images(here.sources, root, split.split)
    images = found.paths
    if here.labels is None:
        places = {image.parent for image in images}
        label_folders = {folder: label_folder(folder, root) for folder in places}
        require_one_owner(label_folders, root)
    else:
        (folder,) = here.sources
        label_folders = {folder: here.labels}
        own = labels_of(folder, here.labels)
        images = [image for image in images if image.parent == folder and image.name in own]
    by_folder: dict[Path, list[str]] = {folder: [] for folder in label_folders}
    for image in images:
        by_folder[image.parent].append(image.name)
    # Names as they are spelled on disk, because a label file may be called a.TXT.
    files = {
        folder: labels_of(folder, label_folders[folder], names)
        for folder, names in by_folder.items()
    }
    labels = [
        label_folders[image.parent] / files[image.parent].get(image.name, f"{image.stem}.txt")
        for image in images
    ]
    fixes += note_other_names(images, labels)
    fixes += _unread_labels(label_folders)
    names = here.names or _names_in(here.name_folders) or _names_in(_around_data(split))
    fixes += _unread_names(here)
    dataset = read_yolo(
        split.source,
        images,
        labels,
        names,
        found.absent,
        found.advice,
        here.keypoints,
        split.boxes,
        here.first_class,
    )
    return replace(
        dataset,
        fixes=(*fixes, *found.fixes, *dataset.fixes),
        notes=(*found.notes, *dataset.notes),
    )


def _from_data_yaml(config: DataYaml, notes: tuple[str, ...] = ()) -> dict[str, SplitSource]:
    file, here = config.file, config.file.parent
    found = {}
    if not config.found and (labels := split_labels(config.root)):
        details = YoloSplit((), config.names, (), (), config.keypoints, config.first_class)
        return _of_labels(here, labels, details, config.root)
    for split, sources in config.splits.items():
        if isinstance(sources, DataError):
            found[split] = SplitSource("yolo", split, here, (file,), details=sources, notes=notes)
        else:
            folders = _name_folders(here, sources, config.root)
            details = YoloSplit(
                sources,
                config.names,
                folders,
                config.moved,
                config.keypoints,
                config.first_class,
            )
            source = _split_source(here, split, details, config.root, notes)
            found[split] = replace(source, files=(file, *source.files))
    return found


def _without_yaml(folder: Path, listed: Sequence[str] | None = None) -> dict[str, SplitSource]:
    """Return the splits of folders; `listed` are class names of a YAML file without paths."""
    class_names = tuple(listed) if listed else None
    splits, notes = _from_folders(folder)
    if not splits and (labels := split_labels(folder)):
        places = (labels.images, *labels.folders.values())
        names = tuple(dict.fromkeys((*_name_folders(folder, (), folder), *places)))
        return _of_labels(folder, labels, YoloSplit((), class_names, names), folder)
    if any(map(_is_described, _around(splits.values(), folder))):
        return {}  # the data set is the folder below whose YAML file has the class names
    folders = _name_folders(folder, splits.values(), folder)
    return {
        split: _split_source(
            folder, split, YoloSplit((source,), class_names, folders), folder, notes
        )
        for split, source in splits.items()
    }


def _of_labels(
    here: Path, labels: SplitLabels, details: YoloSplit, root: Path
) -> dict[str, SplitSource]:
    """Return the splits of images in one folder whose labels are divided into folders."""
    found = {}
    for split, folder in labels.folders.items():
        of_split = replace(details, sources=(labels.images,), labels=folder)
        source = _split_source(here, split, of_split, root, labels.notes)
        found[split] = replace(source, listings=(*source.listings, folder))
    return found


def _around(sources: Iterable[Path], folder: Path) -> set[Path]:
    """Return the folders of images and those around them, below `folder`."""
    around = {each for source in sources for each in (source, *source.parents)}
    return {each for each in around if folder in each.parents and each.is_dir()}


def _is_described(folder: Path) -> bool:
    """Return whether a YAML file in a folder describes data, or would if it could be read."""
    try:
        return choose_yaml(folder, folder) is not None
    except UnrelatedFileError:
        return False
    except DataError:
        return True


def _split_source(
    here: Path, split: str, details: YoloSplit, root: Path, notes: tuple[str, ...]
) -> SplitSource:
    name_files = [file for folder in details.name_folders for file in lists_of_names(folder)]
    is_named = details.names is not None or any(map(Path.is_file, name_files))
    lists = [source for source in details.sources if not source.is_dir()]
    image_folders: set[Path] = set()
    for source in details.sources:
        # The images of a list, and their labels, may be in any folder around it.
        start = _root_of_list(source, root) if source in lists else source
        image_folders |= set(folders_below(start, root))
    listings = image_folders | {label_folder(place, root) for place in image_folders}
    return SplitSource(
        "yolo",
        split,
        here,
        (*name_files, *lists),
        tuple(sorted(listings)),
        () if is_named else details.name_folders,  # where a list of classes may appear
        details=details,
        root=root,
        notes=notes,
    )


def _name_folders(folder: Path, sources: Iterable[Path], root: Path) -> tuple[Path, ...]:
    """Return the folders that may hold a classes.txt: those of the labels, and those above."""
    labels = [label_folder(source, root) for source in sources if source.is_dir()]
    usual = (folder, folder / "labels", folder / "images", *folders_named(folder, DARKNET_FOLDERS))
    return tuple(dict.fromkeys((*usual, *(label.parent for label in labels), *labels)))


def _names_in(folders: Sequence[Path]) -> list[str] | None:
    """Return the class names of the longest classes.txt; None where there is none.

    Shorter lists must be its beginning. Raises DataError where two lists number the classes
    differently: LabelImg writes one into each folder.
    """
    found = [(str(folder), names) for folder in folders if (names := read_names(folder))]
    if not found:
        lists = [file for folder in folders for file in free_lists(folder)]
        found = [(str(file), names) for file in lists if (names := names_in(file))]
    return longest_list(found)


def _around_data(split: SplitSource) -> list[Path]:
    """Return the folders of the data set around the one in which the annotations were found."""
    root = split.root or split.source
    around = [place for place in split.source.parents if place.is_relative_to(root)]
    return [
        *around,
        *(inner for place in around for inner in folders_named(place, DARKNET_FOLDERS)),
    ]


def _unread_labels(label_folders: Mapping[Path, Path]) -> Iterator[AnnotationFix]:
    """Yield the label files beside images whose labels are in another folder, if they differ."""
    for folder, labels in sorted(label_folders.items()):
        beside = labels_of(folder, folder) if folder != labels else {}
        inside = labels_of(folder, labels) if beside else {}
        others = [
            name
            for image, name in beside.items()
            if _content(folder / name) != _content(labels / inside.get(image, name))
        ]
        if others:
            value = f"{len(others)} files in {folder}, the first {others[0]}"
            done = "label files beside the images that differ from those of their folder: not read"
            yield AnnotationFix.of_many(value, done)


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError:
        return b""


def _unread_names(split: YoloSplit) -> Iterator[AnnotationFix]:
    """Yield the lists of classes that contradict the YAML file, which comes first."""
    for folder in split.name_folders if split.names else ():
        try:
            names = read_names(folder) or []
        except DataError:
            continue  # not a list of classes
        if tuple(names) != (split.names or ())[: len(names)]:
            description = "list of classes that contradicts the YAML file: not read"
            yield AnnotationFix.of_many(f"{quoted(names)} in {folder}", description)


def _from_folders(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the images of each split (a folder or a list), for a folder without a data.yaml.

    And sentences on the folders that are not taken.
    """
    images = next(iter(_image_folders(folder)), folder / "images")
    if not folders_of_splits(images):  # images/images/, as zip programs make it
        images = next(iter(_image_folders(images)), images)
    inside = [
        (split, place) for split, place in folders_of_splits(images) if _have_labels(place, folder)
    ]
    beside = [
        (split, place)
        for split, around in folders_of_splits(folder)
        for place in [*_image_folders(around), *([] if _is_voc(around) else [around])][:1]
        if _have_labels(place, folder) and _has_images(place, folder)
    ]
    if inside or beside:
        return _fullest(folder, inside, beside)
    if images.is_dir() and _have_labels(images, folder):
        return _image_lists(folder) or {WHOLE: images}, ()
    return _image_lists(folder) or {WHOLE: folder} if _has_labeled_images(folder) else {}, ()


def _image_folders(folder: Path) -> list[Path]:
    """Return the folders of images inside a folder, the likeliest first."""
    found = folders_named(folder, _IMAGE_FOLDERS)
    return [each for each in found if each.name.lower() != _OF_VOC or not _is_voc(folder)]


def _is_voc(folder: Path) -> bool:
    """Return whether a folder has JPEGImages/ beside XML files, which know the class names."""
    annotations = folders_named(folder, ["annotations"])
    has_files = any(files_in(each, [".xml"]) for each in annotations)
    return has_files and bool(folders_named(folder, [_OF_VOC]))


def _fullest(
    folder: Path, *layouts: Sequence[tuple[str, Path]]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return for each split the folder with the most images, of the layout that has most of them.

    Folders whose whole name is that of a split come before others, such as train before train_old.
    """

    def count(place: Path) -> int:
        return sum(len(files_in(each, SUFFIXES)) for each in folders_below(place, folder))

    def rank(place: Path) -> tuple[bool, int]:
        is_inside = place.name.lower() in _IMAGE_FOLDERS
        names = (place.name, place.parent.name if is_inside else place.name)
        return any(map(canonical, names)), count(place)

    splits: dict[str, Path] = {}
    notes = []
    fullest_first = sorted(layouts, key=lambda layout: -sum(count(place) for _, place in layout))
    for layout in fullest_first:
        for split in dict.fromkeys(split for split, _ in layout):
            places = [place for each, place in layout if each == split]
            chosen = splits.setdefault(split, max(places, key=rank))
            others = [place.relative_to(folder) for place in places if place != chosen]
            if others:
                shown = ", ".join(f"{other}/" for other in others)
                taken = f"{chosen.relative_to(folder)}/"
                notes.append(f"split {split!r} is read from {taken}, not from {shown}")
    return splits, tuple(notes)


def _image_lists(folder: Path) -> dict[str, Path]:
    """Return the text files that are named after splits and list images."""
    found: dict[str, Path] = {}
    for name in files_in(folder, [".txt"]):
        stem = Path(name).stem
        split = split_of_list(stem)
        if split is None or (split in found and not canonical(stem)):
            continue
        lines = _listed(folder / name)[:1]
        located = _locate(folder / name, lines, folder, split)
        if any(located.names):
            found[split] = folder / name
    return found


def _have_labels(images: Path, root: Path) -> bool:
    """Return whether a folder of images, or one in it, has labels: beside them or elsewhere."""
    return any(
        has_labels(labels)
        if (labels := label_folder(place, root)) != place
        else _has_labeled_images(place)
        for place in folders_below(images, root)
    )


def _has_images(folder: Path, root: Path) -> bool:
    return any(files_in(place, SUFFIXES) for place in folders_below(folder, root))


def _has_labeled_images(folder: Path) -> bool:
    """Return whether a folder holds an image and a text file of the same name."""
    return bool(labels_of(folder, folder))


@dataclass(frozen=True)
class _Images:
    """The images of a split, and those that a list names but that are not there."""

    paths: list[Path]
    absent: list[AnnotationFix]
    fixes: list[AnnotationFix]
    notes: list[str]
    advice: str = ""


def _images(sources: Sequence[Path], root: Path, split: str) -> _Images:
    """Return the images in folders and their subfolders, and those that text files list."""
    found = _Images([], [], [], [])
    for source in sources:
        if source.is_dir():
            places = folders_below(source, root)
            found.paths.extend(
                place / name for place in sorted(places) for name in files_in(place, SUFFIXES)
            )
            continue
        lines = _listed(source)
        located = _locate(source, lines, root, split)
        found.fixes.extend(located.fixes)
        found.notes.extend(located.notes)
        found = replace(found, advice=found.advice or located.advice)
        for position, (line, name) in enumerate(zip(lines, located.names, strict=True)):
            if name is None:
                file = (written_parts(line) or (line,))[-1]
                done = located.why_absent(position)
                found.absent.append(AnnotationFix(file, None, file, done))
            else:
                found.paths.append(located.root / name)
    once = list(dict.fromkeys(found.paths))
    repeated = len(found.paths) - len(once)
    if repeated:
        done = "image of several lists or lines: read once"
        found.fixes.append(AnnotationFix.of_many(f"{repeated} times", done))
    return replace(found, paths=once)


def _locate(source: Path, lines: Sequence[str], root: Path, split: str) -> LocatedImages:
    here, root = source.parent, _root_of_list(source, root)
    usual = tuple(dict.fromkeys((here, root)))
    return locate_photographs(lines, SearchArea(root, usual, here, split))


def _root_of_list(source: Path, root: Path) -> Path:
    """Return the folder around a list: its own where a data.yaml names one outside the root."""
    return root if source.is_relative_to(root) else source.parent


def _listed(source: Path) -> list[str]:
    """Return the lines of a list of images."""
    try:
        lines = read_text(source, "utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{source}: cannot be read as a list of images ({error}); name a text file, saved as "
            "UTF-8"
        ) from None
    return [line.strip() for line in lines if line.strip() and "\0" not in line]
