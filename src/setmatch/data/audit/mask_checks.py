"""Masks looked at: whether what is drawn agrees with what is listed."""

from collections.abc import Iterator

import numpy as np

from setmatch.data.audit.checks import Finding
from setmatch.data.dataset import DetectionDataset
from setmatch.data.mask_decoding import read_segment_ids
from setmatch.data.splits import canonical
from setmatch.errors import DataError


def drawn_findings(index: DetectionDataset, split: str, image: int) -> Iterator[Finding]:
    """Yield what is odd about the masks of image number `image`; nothing where there are none.

    What cannot be read becomes a finding, never an error.
    """
    try:
        if index.panoptic is not None:
            yield from _segments(index, split, image)
        elif index.segmentations is not None:
            yield from _outlines(index, split, image)
    except DataError as error:
        evaluated = canonical(split) in ("val", "test")
        with_masks = "evaluated as unanswered" if evaluated else "training would stop at it"
        done = f"with masks, {with_masks}"
        what = "masks that cannot be used"
        yield Finding("mend", what, done, split, index.name(image), value=str(error))


def _segments(index: DetectionDataset, split: str, image: int) -> Iterator[Finding]:
    assert index.panoptic is not None, "the caller has looked"
    rows = slice(index.offsets[image], index.offsets[image + 1])
    listed, areas = index.panoptic.segment_ids[rows], index.area_px[rows]
    png, name = index.panoptic.path(image), index.name(image)
    ids, counts = np.unique(read_segment_ids(png, index.size_px(image)), return_counts=True)
    for strange in np.setdiff1d(ids, [0, *listed]).tolist():
        value = f"{int(counts[ids == strange][0])} pixels of id {strange} in {png.name}"
        what, done = "segment that is drawn but not listed", "taken for nothing"
        yield Finding("repaired", what, done, split, name, value=value)
    drawn = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    for id_, area in zip(listed.tolist(), areas.tolist(), strict=True):
        if id_ not in drawn:
            what, done = "segment that is listed but not drawn", "left out where masks are learned"
            yield Finding("repaired", what, done, split, name, id_)
        elif drawn[id_] != area:
            value = f"area {area:g}, {drawn[id_]} pixels drawn in {png.name}"
            what, done = "segment of another area than listed", "what is drawn counts"
            yield Finding("note", what, done, split, name, id_, value=value)


def _outlines(index: DetectionDataset, split: str, image: int) -> Iterator[Finding]:
    rows = np.arange(index.offsets[image], index.offsets[image + 1])
    empty = ~index.masks(image, rows).any(axis=(1, 2)) & ~index.crowd[rows]
    for row in rows[empty].tolist():
        what, done = "object without a pixel in its outline", "left out where masks are learned"
        id_ = int(index.annotation_ids[row])
        yield Finding("note", what, done, split, index.name(image), id_)
