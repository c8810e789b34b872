"""Training images on which lower precision is calibrated."""

from collections.abc import Iterator

from jaxtyping import UInt8
from torch import Tensor

from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.image_io import read_image
from setmatch.errors import DataError

CALIBRATED_ON = 32  # images, from which the range of each activation is measured


def training_images(images: DetectionDataset) -> Iterator[UInt8[Tensor, "3 H W"]]:
    """Yield some images of the training data, evenly chosen, and others for unreadable ones.

    Raises DataError, with the reason of the first one, if none can be read.
    """
    count = min(len(images), CALIBRATED_ON)
    chosen = [place * len(images) // count for place in range(count)]
    reason: DataError | None = None
    given = 0
    for number in dict.fromkeys((*chosen, *range(len(images)))):
        try:
            pixels = read_image(images.path(number))
        except DataError as error:
            reason = reason or error
            continue
        yield pixels
        given += 1
        if given == count:
            return
    if not given:
        raise DataError(
            f"{images.source}: none of its images can be read to calibrate on; the first: {reason}"
        )
