"""Unreadable image files: find them before training starts, and decide how many are too many.

Training leaves out up to 1% of the images. Evaluation counts the objects of an unreadable image as
missed, so that a damaged file never improves a metric. If masks are used, the PNG file of an
image's segments counts like the image itself.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int64

from setmatch.data.annotations.mask_decoding import read_segment_ids
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.decoding import is_complete, read_size_px
from setmatch.data.images.image_io import read_image
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile, unreadable_line
from setmatch.errors import DataError

UNREADABLE_AT_MOST = 0.01  # fraction of the images; evaluation always accepts one image
PROBED = 1000  # images of a training split to check before training; other splits are checked fully
_THREADS = 4  # which mostly wait for the disk


def sample(dataset: DetectionDataset, most: int | None) -> Int64[np.ndarray, " S"]:
    """Return `most` random images in order, the same ones each time; None returns all."""
    if most is None or most >= len(dataset):
        return np.arange(len(dataset))
    return np.sort(np.random.default_rng(0).permutation(len(dataset))[:most])


def find_unreadable(
    dataset: DetectionDataset, most: int | None = None, masks: bool = False
) -> dict[int, UnreadableFile]:
    """Return each unreadable image by its number, among all images or `most` of them.

    `masks` includes the PNG files of panoptic segments. Only the beginning and the end of a file
    are read, and all of it if these look wrong: some thousand files a second. Damage in the middle
    shows only when the image is decoded.
    """
    images = sample(dataset, most).tolist()
    with ThreadPoolExecutor(_THREADS) as readers:
        problems = readers.map(lambda image: _problem(dataset, image, masks), images)
        return {image: file for image, file in zip(images, problems, strict=True) if file}


def split_line(dataset: DetectionDataset, problems: Collection[UnreadableFile]) -> str:
    """Return how many images of a split cannot be read, and which; "" for none.

    `problems` are those found, to which come the images that the data set was opened without.
    """
    return unreadable_line([*dataset.unread, *problems], len(dataset) + len(dataset.unread))


def check_training_corruption(
    dataset: DetectionDataset, problems: Collection[UnreadableFile], skip: bool
) -> None:
    """Raise DataError when too many images of `dataset` are unreadable to train on the rest.

    Without `skip`, one is too many.
    """
    if not problems or (skip and len(problems) <= UNREADABLE_AT_MOST * len(dataset)):
        return
    if not skip:
        *_, last = problems
        raise UnreadableError(last)
    raise DataError(
        f"{dataset.source}: {split_line(dataset, problems)}; training leaves out at most "
        f"{UNREADABLE_AT_MOST:.0%}: replace or remove the files"
    )


def check_evaluation_corruption(
    dataset: DetectionDataset, problems: Mapping[int, UnreadableFile]
) -> None:
    """Raise DataError when too many images of `dataset` are unreadable for meaningful metrics."""
    if len(problems) <= max(1, UNREADABLE_AT_MOST * len(dataset)):
        return
    raise DataError(
        f"{dataset.source}: {split_line(dataset, problems.values())}; with more than "
        f"{UNREADABLE_AT_MOST:.0%}, metrics would measure the files rather than the model: replace "
        "the files"
    )


def unreadable_notes(
    dataset: DetectionDataset, problems: Mapping[int, UnreadableFile]
) -> tuple[str, ...]:
    """Return a sentence on each unreadable image, with the objects that count as missed."""
    notes = []
    for image, problem in problems.items():
        rows = dataset.rows(image)
        objects = int((~dataset.crowd[rows.start : rows.stop]).sum())
        notes.append(f"no detections, so that its objects count as missed ({objects}): {problem}")
    return tuple(notes)


def _problem(dataset: DetectionDataset, image: int, masks: bool) -> UnreadableFile | None:
    path, size_px = dataset.path(image), dataset.size_px(image)
    try:
        if not is_complete(path, size_px):
            read_image(path, size_px)
        if masks and dataset.panoptic is not None:
            png = dataset.panoptic.path(image)
            if not is_complete(png, size_px) or read_size_px(png) != size_px:
                read_segment_ids(png, size_px)
    except UnreadableError as error:
        return error.file
    return None
