"""Checks of masks: whether the pixels agree with the annotations."""

from collections.abc import Iterator

import numpy as np

from setmatch.data.annotations.mask_decoding import read_segment_ids
from setmatch.data.audit.findings import Finding
from setmatch.data.dataset import DetectionDataset
from setmatch.data.splits import canonical
from setmatch.errors import DataError

MASKS_ONLY = "for models with masks, "  # where an action concerns no others


def check_masks(dataset: DetectionDataset, split: str, image: int) -> Iterator[Finding]:
    """Yield the findings in the masks of image number `image`; none if the data has no masks.

    Masks that cannot be read are a finding, not an error.
    """
    try:
        if dataset.panoptic is not None:
            yield from _check_segments(dataset, split, image)
        elif dataset.segmentations is not None:
            yield from _check_outlines(dataset, split, image)
    except DataError as error:
        evaluated = canonical(split) in ("val", "test")
        result = "its segments count as missed" if evaluated else "training would stop here"
        kind, action = "masks that cannot be used", f"{MASKS_ONLY}{result}"
        yield Finding("error", kind, action, split, dataset.name(image), value=str(error))


def _check_segments(dataset: DetectionDataset, split: str, image: int) -> Iterator[Finding]:
    assert dataset.panoptic is not None, "check_masks calls this for panoptic data only"
    rows = slice(dataset.offsets[image], dataset.offsets[image + 1])
    listed_ids, areas = dataset.panoptic.segment_ids[rows], dataset.area_px[rows]
    png, name = dataset.panoptic.path(image), dataset.name(image)
    ids, counts = np.unique(read_segment_ids(png, dataset.size_px(image)), return_counts=True)
    for unlisted in np.setdiff1d(ids, [0, *listed_ids]).tolist():
        value = f"{int(counts[ids == unlisted][0])} pixels of id {unlisted} in {png.name}"
        kind, action = "segment in the PNG but not in the JSON", "treated as unlabeled"
        yield Finding("fixed", kind, action, split, name, value=value)
    drawn = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    for id_, area in zip(listed_ids.tolist(), areas.tolist(), strict=True):
        if id_ not in drawn:
            kind = "segment in the JSON but not in the PNG"
            action = "left out of the training of masks"
            yield Finding("fixed", kind, action, split, name, id_)
        elif drawn[id_] != area:
            value = f"area {area:g}, but {drawn[id_]} pixels in {png.name}"
            kind, action = "segment area differs between JSON and PNG", "the PNG is used"
            yield Finding("note", kind, action, split, name, id_, value=value)


def _check_outlines(dataset: DetectionDataset, split: str, image: int) -> Iterator[Finding]:
    rows = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
    empty = ~dataset.masks(image, rows).any(axis=(1, 2)) & ~dataset.crowd[rows]
    for row in rows[empty].tolist():
        kind, action = "object with an empty mask", "left out of the training of masks"
        id_ = int(dataset.annotation_ids[row])
        yield Finding("note", kind, action, split, dataset.name(image), id_)
