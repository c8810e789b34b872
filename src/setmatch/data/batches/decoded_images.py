"""Decoded images and their targets, kept in memory within a bound: read once if they fit."""

from jaxtyping import UInt8
from torch import Tensor

from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.image_io import read_image
from setmatch.structures.batch import Target

Decoded = tuple[UInt8[Tensor, "3 _ _"], Target]


class DecodedImages:
    """The images of a data set with their targets, as `read_image` and `target` return them.

    Those that are read first are kept, as long as they take at most `limit_bytes` together, and
    never given up for others: every image is needed once an epoch, so none is worth more than
    another. What is returned must not be changed in place.
    """

    def __init__(self, dataset: DetectionDataset, masks: bool, limit_bytes: int) -> None:
        self._dataset = dataset
        self._masks = masks
        self._limit_bytes = limit_bytes
        self._kept: dict[int, Decoded] = {}
        self.kept_bytes = 0

    def __getitem__(self, image: int) -> Decoded:
        """Return image number `image` and its target.

        Raises UnreadableError if they cannot be read.
        """
        kept = self._kept.get(image)
        if kept is not None:
            return kept
        pixels = read_image(self._dataset.path(image), self._dataset.size_px(image))
        decoded = pixels, self._dataset.target(image, self._masks)
        size = _nbytes(decoded)
        if self.kept_bytes + size <= self._limit_bytes:
            self._kept[image] = decoded
            self.kept_bytes += size
        return decoded


def _nbytes(decoded: Decoded) -> int:
    pixels, target = decoded
    masks = 0 if target.masks is None else target.masks.nbytes
    return pixels.nbytes + target.classes.nbytes + target.cxcywh.nbytes + masks
