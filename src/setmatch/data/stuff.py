"""Instance segmentation of panoptic data: what is counted, without the stuff around it."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.data.ragged import offsets_of
from setmatch.errors import DataError
from setmatch.structures.metadata import Categories


def slots_of_things(categories: Categories) -> Int64[np.ndarray, " C"]:
    """Return for every slot the one that it has where things alone have slots; -1 for stuff."""
    things = np.array(
        [class_index not in categories.stuff for class_index in range(len(categories))], dtype=bool
    )
    return np.where(things, things.cumsum() - 1, -1)


def drop_stuff(index: DetectionDataset) -> DetectionDataset:
    """Return the index without stuff: neither its classes nor its annotations; images all stay.

    Raises DataError when there are no things.
    """
    known = index.categories
    if not known.stuff:
        return index
    class_indices = slots_of_things(known)
    kept = np.flatnonzero(class_indices >= 0).tolist()
    if not kept:
        raise DataError(f"{index.source}: every class is stuff; there are no things to find")
    rows = np.flatnonzero(class_indices[index.class_indices] >= 0)
    image = np.repeat(np.arange(len(index)), np.diff(index.offsets))[rows]
    return replace(
        index,
        categories=Categories(
            tuple(known.ids[class_index] for class_index in kept),
            tuple(known.names[class_index] for class_index in kept),
        ),
        offsets=offsets_of(np.bincount(image, minlength=len(index))),
        xywh_px=index.xywh_px[rows],
        area_px=index.area_px[rows],
        class_indices=class_indices[index.class_indices[rows]].astype(index.class_indices.dtype),
        crowd=index.crowd[rows],
        annotation_ids=index.annotation_ids[rows],
        outlines=index.outlines and index.outlines.take(rows),
        panoptic=index.panoptic and index.panoptic.take(np.arange(len(index)), rows),
        notes=(*index.notes, f"things only: {len(known.stuff)} classes of stuff are left out"),
    )
