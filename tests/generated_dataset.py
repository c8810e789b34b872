"""A DetectionDataset of any size, without image files."""

from pathlib import Path

import numpy as np

from setmatch.data.dataset import DetectionDataset
from setmatch.structures.metadata import Categories


def generated(images: int, boxes: int) -> DetectionDataset:
    """Return a data set of random boxes with file names like COCO's."""
    rng = np.random.default_rng(0)
    names = [f"{i:012d}.jpg".encode() for i in range(images)]
    image = np.sort(rng.integers(0, images, boxes))
    return DetectionDataset(
        source=Path("generated.json"),
        images=Path("generated"),
        categories=Categories((1,), ("car",)),
        image_ids=np.arange(images),
        sizes_px=np.tile(np.array([[480, 640]], dtype=np.int32), (images, 1)),
        names=b"".join(names),
        name_offsets=np.arange(images + 1) * 16,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(image, minlength=images))]),
        xywh_px=rng.uniform(1, 200, (boxes, 4)),
        area_px=np.ones(boxes),
        class_indices=np.zeros(boxes, dtype=np.int32),
        crowd=np.zeros(boxes, dtype=bool),
        annotation_ids=np.arange(boxes),
    )
