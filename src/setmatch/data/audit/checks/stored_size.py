"""Find boxes in the pixels of image files that are smaller than they were annotated."""

from collections.abc import Iterator

import numpy as np

from setmatch.data.audit.findings import Finding
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.corrupt_files import sample
from setmatch.data.images.decoding import read_size_px
from setmatch.errors import DataError

_IMAGES = 50  # whose headers are read
_SMALLER = 0.9  # of the annotated side; of files that are hardly smaller, boxes tell nothing
_FAR = 0.7  # of the file, to which boxes in its pixels come, to the right and down
_CHANCE = 1e-4  # of boxes anywhere in the annotated size


def check_stored_size(split: str, dataset: DetectionDataset) -> Iterator[Finding]:
    """Yield one finding if the boxes of smaller files lie within the files' own pixels.

    Boxes are in pixels of the annotated size. If images were resized and their boxes with them, but
    not the size in the annotations, all boxes are learned at the left top of the images.
    """
    inside, log_chance, files = [], 0.0, 0
    example = ""
    for image in sample(dataset, _IMAGES).tolist():
        rows = dataset.rows(image)
        boxes = dataset.xywh_px[rows.start : rows.stop]
        try:
            stored_px = read_size_px(dataset.path(image)) if len(boxes) else (0, 0)
        except DataError:
            continue  # which other checks report
        annotated_px = dataset.size_px(image)
        smaller = np.array(stored_px) / np.array(annotated_px)
        if not len(boxes) or smaller.max() > _SMALLER or abs(smaller[0] / smaller[1] - 1) > 0.05:
            continue
        files += 1
        example = example or (
            f"{dataset.name(image)} is {stored_px[1]}×{stored_px[0]}, annotated as "
            f"{annotated_px[1]}×{annotated_px[0]}"
        )
        inside.append((boxes[:, :2] + boxes[:, 2:]) / np.array(stored_px[::-1]))
        log_chance += len(boxes) * float(np.log(smaller).sum())
    if not inside or log_chance > np.log(_CHANCE):
        return
    farthest = np.concatenate(inside).max(axis=0)
    if (farthest <= 1.01).all() and (farthest >= _FAR).all():
        yield Finding(
            "error",
            "boxes in the pixels of smaller image files",
            "write the size of the files into the annotations, or scale the boxes, if so",
            split,
            value=f"all boxes of {files} files lie within the file's own pixels; {example}",
        )
