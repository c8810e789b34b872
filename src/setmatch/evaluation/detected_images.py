"""Find the image of a data set that each saved detection belongs to.

Programs name images by id, by file name or path, or by the name without its suffix. YOLO's tools
write the latter as `image_id`, as a number where it is all digits.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.columns import Records
from setmatch.data.formats.written_paths import PathIndex
from setmatch.data.ragged import unpack
from setmatch.errors import DataError, quoted, short


def image_ids_of(
    records: Records, dataset: DetectionDataset, notes: list[str]
) -> Int64[np.ndarray, " D"]:
    """Return the image id of each detection; adds to `notes` how ids were read, if not as such.

    File names take precedence over ids. Raises DataError for an image that the data set does not
    have, a name that several images have, and two names that mean one image.
    """
    if not len(records):
        return np.zeros(0, dtype=np.int64)
    names = unpack(dataset.names, dataset.name_offsets)
    # One program wrote all rows, so they are alike.
    if records.values("file_name")[0] is not None:
        key, written = "file_name", records.paths("file_name")
        images = _images_named(records, key, written, names, dataset)
        return dataset.image_ids[images]
    values = records.values("image_id")
    if any(type(value) is str for value in values) and _are_stems(values, names):
        notes.append("image ids are read as file names without their suffix")
        written = [str(value) for value in values]
        return dataset.image_ids[_images_named(records, "image_id", written, names, dataset)]
    ids = records.integers("image_id").values
    unknown = np.flatnonzero(~np.isin(ids, dataset.image_ids)).tolist()
    if not unknown:
        return ids
    image_of = _numeric_stems(names)
    if all(id_ in image_of for id_ in ids.tolist()):
        notes.append("image ids are read as the numbers that the images' files are called")
        return dataset.image_ids[np.array([image_of[id_] for id_ in ids.tolist()])]
    raise records.error(
        unknown[0],
        f"image_id {ids[unknown[0]]} is not in {dataset.source}, neither as an id nor as the name "
        "of an image file",
    )


def _are_stems(values: Sequence[object], names: Sequence[str]) -> bool:
    """Return whether texts are names of files rather than numbers written as text."""
    texts = [value for value in values if type(value) is str]
    stems = {PurePosixPath(name).stem for name in names}
    return any(not text.isdigit() for text in texts) or stems.issuperset(texts)


def _numeric_stems(names: Sequence[str]) -> dict[int, int]:
    """Return the image of each number that a single image's file is called."""
    images: dict[int, list[int]] = defaultdict(list)
    for image, name in enumerate(names):
        stem = PurePosixPath(name).stem
        if stem.isascii() and stem.isdigit() and len(stem) < 19:
            images[int(stem)].append(image)
    return {number: same[0] for number, same in images.items() if len(same) == 1}


def _images_named(
    records: Records,
    key: str,
    written: Sequence[str],
    names: Sequence[str],
    dataset: DetectionDataset,
) -> Int64[np.ndarray, " D"]:
    index = PathIndex(names)
    numbers = _numeric_stems(names) if key == "image_id" else {}
    image_of: dict[str, int] = {}
    for row, name in enumerate(written):
        if name in image_of:
            continue
        found: Sequence[int] = index.match(name).files
        if not found and name.isdigit() and int(name) in numbers:
            found = [numbers[int(name)]]
        if len(found) > 1:
            several = quoted([names[image] for image in found], 3)
            raise records.error(row, f"image {short(name)} may be any of {several}")
        if not found:
            raise records.error(row, f"image {short(name)} is not in {dataset.source}")
        image_of[name] = found[0]
    for one, other in _same_values(image_of):
        raise DataError(
            f"{records.file}: {key} {short(one)} and {short(other)} both mean the image "
            f"{short(names[image_of[one]])} of {dataset.source}; name each image in one way"
        )
    return np.array([image_of[name] for name in written], dtype=np.int64)


def _same_values(values: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield pairs of keys with the same value."""
    first: dict[Hashable, str] = {}
    for key, value in values.items():
        if first.setdefault(value, key) != key:
            yield first[value], key
