"""Instance segmentation on panoptic data: keep the things, drop the stuff."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.data.ragged import offsets_of
from setmatch.errors import DataError
from setmatch.structures.metadata import Categories


def thing_class_indices(categories: Categories) -> Int64[np.ndarray, " C"]:
    """Return each class's index when only things are counted; -1 for stuff."""
    things = np.array(
        [class_index not in categories.stuff for class_index in range(len(categories))], dtype=bool
    )
    return np.where(things, things.cumsum() - 1, -1)


def drop_stuff(dataset: DetectionDataset) -> DetectionDataset:
    """Return the data set without stuff classes and their annotations. All images stay.

    Raises DataError when there are no things.
    """
    categories = dataset.categories
    if not categories.stuff:
        return dataset
    class_indices = thing_class_indices(categories)
    kept = np.flatnonzero(class_indices >= 0).tolist()
    if not kept:
        raise DataError(f"{dataset.source}: every class is stuff, so that no thing can be detected")
    rows = np.flatnonzero(class_indices[dataset.class_indices] >= 0)
    image = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))[rows]
    return replace(
        dataset,
        categories=Categories(
            tuple(categories.ids[class_index] for class_index in kept),
            tuple(categories.names[class_index] for class_index in kept),
        ),
        offsets=offsets_of(np.bincount(image, minlength=len(dataset))),
        xywh_px=dataset.xywh_px[rows],
        area_px=dataset.area_px[rows],
        class_indices=class_indices[dataset.class_indices[rows]].astype(
            dataset.class_indices.dtype
        ),
        crowd=dataset.crowd[rows],
        annotation_ids=dataset.annotation_ids[rows],
        segmentations=dataset.segmentations and dataset.segmentations.take(rows),
        panoptic=dataset.panoptic and dataset.panoptic.take(np.arange(len(dataset)), rows),
        origins=None if dataset.origins is None else dataset.origins[rows],
        notes=(*dataset.notes, f"things only: {len(categories.stuff)} stuff classes are left out"),
    )
