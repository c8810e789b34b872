"""A data set from any readable format into another, whole or not at all."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.data.cache import cached
from setmatch.data.dataset import AnnotationFix, DetectionDataset
from setmatch.data.discovery import discover_splits
from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.coco.write import write_coco
from setmatch.data.formats.voc.write import write_voc
from setmatch.data.formats.writing import SplitToWrite, distinct_names
from setmatch.data.formats.yolo.write import write_yolo
from setmatch.data.open import open_dataset
from setmatch.data.ragged import unpack
from setmatch.data.splits import SPLITS, words_for
from setmatch.errors import ConfigError, DataError
from setmatch.files import whole_folder

WRITERS: dict[str, Callable[[Path, Sequence[SplitToWrite]], list[str]]] = {
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
}
_IMAGES = {"coco": "images/{}", "voc": "JPEGImages", "yolo": "images/{}"}


@dataclass(frozen=True)
class Conversion:
    """What was written: numbers of images and annotations by split; what was not, in sentences."""

    folder: Path
    images: dict[str, int]
    annotations: dict[str, int]
    fixes: tuple[AnnotationFix, ...]
    notes: tuple[str, ...]


def convert_dataset(
    source: str | Path,
    destination: str | Path,
    to: str,
    splits: Sequence[str] = (),
    format: str | None = None,
    link: bool = False,
) -> Conversion:
    """Write a data set in the format `to`: its train, val and test splits, or those of `splits`.

    Boxes stay exact in COCO and VOC, and within a millionth of a pixel in YOLO. Images are copied,
    or with `link` linked. What nothing divides becomes the split "train"; for YOLO, whose software
    asks for a validation split, what training would hold out becomes that. Raises ConfigError for
    a `destination` that is not empty or an unknown format, DataError for what cannot be read.
    """
    destination = Path(destination)
    if to not in WRITERS:
        raise ConfigError(f"--to {to}: unknown format; known are {', '.join(WRITERS)}")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ConfigError(f"{destination}: is there already; name a folder that is new or empty")
    datasets = _chosen(Path(source), format, splits)
    if to == "yolo" and not splits:
        datasets = _with_validation(Path(source), format, datasets)
    taken: set[str] = set()
    written = []
    for name, dataset in datasets.items():
        if to != "voc":
            taken = set()
        names = unpack(dataset.names, dataset.name_offsets)
        files = names if to == "coco" else distinct_names(names, taken, flat=to == "voc")
        written.append(SplitToWrite(name, dataset, files))
    try:
        with whole_folder(destination) as aside:
            for split in written:
                _bring_images(split, aside / _IMAGES[to].format(split.name), link)
            notes = WRITERS[to](aside, written)
    except OSError as error:
        raise DataError(f"{destination}: cannot be written ({error.strerror or error})") from None
    return Conversion(
        destination,
        {split.name: len(split.dataset) for split in written},
        {split.name: len(split.dataset.class_indices) for split in written},
        tuple(fix for split in written for fix in split.dataset.fixes),
        tuple(dict.fromkeys([*(note for each in written for note in each.dataset.notes), *notes])),
    )


def _chosen(source: Path, format: str | None, splits: Sequence[str]) -> dict[str, DetectionDataset]:
    parts = _parts(source, discover_splits(source, format), splits)
    return {name: cached(part) for name, part in parts.items()}


def _with_validation(
    source: Path, format: str | None, datasets: dict[str, DetectionDataset]
) -> dict[str, DetectionDataset]:
    """Return the splits with one for validation, where training images can be held out for it."""
    if source.is_file() or "train" not in datasets or "val" in datasets:
        return datasets
    training = open_dataset(source, "train", format)
    if len(training) == len(datasets["train"]):  # too few, as its notes say
        return datasets | {"train": training}
    return {**datasets, "train": training, "val": open_dataset(source, "val", format)}


def _parts(
    source: Path, parts: dict[str, SplitSource], splits: Sequence[str]
) -> dict[str, SplitSource]:
    if not splits:
        if WHOLE in parts:
            return {"train": parts[WHOLE]}
        usual = {name: parts[name] for name in SPLITS if name in parts}
        return usual or parts
    chosen: dict[str, SplitSource] = {}
    for split in splits:
        name = next((word for word in words_for(split) if word in parts), None)
        if name is None:
            found = ", ".join(sorted(parts))
            raise DataError(f"{source}: no split {split!r}; found {found}")
        chosen[name] = parts[name]
    return chosen


def _bring_images(split: SplitToWrite, folder: Path, link: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    inner = {folder / Path(file).parent for file in split.files}
    for place in inner:
        place.mkdir(parents=True, exist_ok=True)
    for image, file in enumerate(split.files):
        origin = split.dataset.path(image)
        if link and not (folder / file).is_symlink():
            (folder / file).symlink_to(origin.absolute())
        elif not link:
            shutil.copyfile(origin, folder / file)
