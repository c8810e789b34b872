"""Instance segmentation of panoptic data: what is counted, without the stuff around it."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from setmatch.data.dataset import Index
from setmatch.data.ragged import offsets_of
from setmatch.errors import DataError
from setmatch.structures.metadata import Categories


def slots_of_things(categories: Categories) -> Int64[np.ndarray, " C"]:
    """Return for every slot the one that it has where things alone have slots; -1 for stuff."""
    things = np.array([slot not in categories.stuff for slot in range(len(categories))], dtype=bool)
    return np.where(things, things.cumsum() - 1, -1)


def things_only(index: Index) -> Index:
    """Return the index without stuff: neither its classes nor its annotations; images all stay.

    Raises DataError when there are no things.
    """
    known = index.categories
    if not known.stuff:
        return index
    slots = slots_of_things(known)
    kept = np.flatnonzero(slots >= 0).tolist()
    if not kept:
        raise DataError(f"{index.source}: every class is stuff; there are no things to find")
    rows = np.flatnonzero(slots[index.slots] >= 0)
    image = np.repeat(np.arange(len(index)), np.diff(index.offsets))[rows]
    return replace(
        index,
        categories=Categories(
            tuple(known.ids[slot] for slot in kept), tuple(known.names[slot] for slot in kept)
        ),
        offsets=offsets_of(np.bincount(image, minlength=len(index))),
        xywh_px=index.xywh_px[rows],
        area_px=index.area_px[rows],
        slots=slots[index.slots[rows]].astype(index.slots.dtype),
        crowd=index.crowd[rows],
        annotation_ids=index.annotation_ids[rows],
        outlines=index.outlines and index.outlines.take(rows),
        panoptic=index.panoptic and index.panoptic.take(np.arange(len(index)), rows),
        notes=(*index.notes, f"things only: {len(known.stuff)} classes of stuff are left out"),
    )
