"""Image files that cannot be read: found before hours are spent; how many are too many.

In training up to 1% of the images are left out. In an evaluation they stay, unanswered, so that
their objects count as missed: no number is better for a picture that is damaged. Where masks are
learned or measured, the PNG of an image's segments is as much needed as the image, and one rule
holds for both.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.data.image_io import is_complete, read_image, read_size_px
from setmatch.data.mask_decoding import read_segment_ids
from setmatch.errors import DataError

UNREADABLE_AT_MOST = 0.01  # of the images; in an evaluation one is never too many
PROBED = 1000  # images of a training split that are looked at beforehand; of others, all are
_READERS = 4  # threads, which mostly wait for the disk


def sample(dataset: DetectionDataset, most: int | None) -> Int64[np.ndarray, " S"]:
    """Choose `most` images of a dataset, always the same ones, in order; None chooses all."""
    if most is None or most >= len(dataset):
        return np.arange(len(dataset))
    return np.sort(np.random.default_rng(0).permutation(len(dataset))[:most])


def find_unreadable(
    dataset: DetectionDataset, most: int | None = None, masks: bool = False
) -> dict[int, str]:
    """Return what is wrong with image files, by the images' numbers, of all or a sample of `most`.

    `masks` asks for the PNG files of segments too, where there are any. Of each file only beginning
    and end are read, of those that look wrong all: some thousand files a second. Damage in the
    middle of a file is left for whoever decodes it.
    """
    images = sample(dataset, most).tolist()
    with ThreadPoolExecutor(_READERS) as readers:
        problems = readers.map(lambda image: _problem(dataset, image, masks), images)
        return {image: text for image, text in zip(images, problems, strict=True) if text}


def check_training_corruption(
    dataset: DetectionDataset, problems: Collection[str], skip: bool
) -> None:
    """Raise DataError when too many images of `dataset` are unreadable to train on the rest.

    Without `skip`, one is too many.
    """
    if not problems or (skip and len(problems) <= UNREADABLE_AT_MOST * len(dataset)):
        return
    *_, last = problems
    if not skip:
        raise DataError(last)
    raise DataError(
        f"{len(problems)} unreadable of {len(dataset)} images; at most {UNREADABLE_AT_MOST:.0%} may "
        f"be left out; the last: {last}"
    )


def check_evaluation_corruption(dataset: DetectionDataset, problems: Mapping[int, str]) -> None:
    """Raise DataError when so many images of `dataset` cannot be read that no number means much."""
    if len(problems) <= max(1, UNREADABLE_AT_MOST * len(dataset)):
        return
    raise DataError(
        f"{dataset.source}: {len(problems)} unreadable of {len(dataset)} images to evaluate on; "
        f"more than {UNREADABLE_AT_MOST:.0%} would say more of the files than of the model; the last: "
        f"{[*problems.values()][-1]}"
    )


def unanswered(dataset: DetectionDataset, problems: Mapping[int, str]) -> tuple[str, ...]:
    """Say of each unreadable image what that costs in an evaluation."""
    return tuple(
        f"unanswered, so that its objects count as missed ({_objects(dataset, image)}): {problem}"
        for image, problem in problems.items()
    )


def _objects(dataset: DetectionDataset, image: int) -> int:
    return int((~dataset.crowd[dataset.offsets[image] : dataset.offsets[image + 1]]).sum())


def _problem(dataset: DetectionDataset, image: int, masks: bool) -> str:
    path, size_px = dataset.path(image), dataset.size_px(image)
    try:
        if not is_complete(path, size_px):
            read_image(path, size_px)
        if masks and dataset.panoptic is not None:
            png = dataset.panoptic.path(image)
            if not is_complete(png, size_px) or read_size_px(png) != size_px:
                read_segment_ids(png, size_px)
    except DataError as error:
        return str(error)
    return ""
