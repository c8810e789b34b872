"""Instance segmentation of panoptic data: what is counted, without the stuff around it."""

from dataclasses import replace

import numpy as np

from setmatch.data.index import Index
from setmatch.data.ragged import offsets_of
from setmatch.errors import DataError
from setmatch.structures import Categories


def things_only(index: Index) -> Index:
    """Return the index without stuff: neither its classes nor its annotations; images all stay.

    Raises DataError when there are no things.
    """
    known = index.categories
    if not known.stuff:
        return index
    kept = [slot for slot in range(len(known)) if slot not in known.stuff]
    if not kept:
        raise DataError(f"{index.source}: every class is stuff; there are no things to find")
    rows = np.flatnonzero(np.isin(index.slots, kept))
    image = np.repeat(np.arange(len(index)), np.diff(index.offsets))[rows]
    slots = np.full(len(known), -1, dtype=index.slots.dtype)
    slots[kept] = np.arange(len(kept))
    return replace(
        index,
        categories=Categories(
            tuple(known.ids[slot] for slot in kept), tuple(known.names[slot] for slot in kept)
        ),
        offsets=offsets_of(np.bincount(image, minlength=len(index))),
        xywh_px=index.xywh_px[rows],
        area_px=index.area_px[rows],
        slots=slots[index.slots[rows]],
        crowd=index.crowd[rows],
        annotation_ids=index.annotation_ids[rows],
        outlines=index.outlines and index.outlines.take(rows),
        panoptic=index.panoptic and index.panoptic.take(np.arange(len(index)), rows),
        notes=(*index.notes, f"things only: {len(known.stuff)} classes of stuff are left out"),
    )
