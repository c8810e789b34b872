"""Write COCO instances: annotations/{split}.json beside images/{split}/."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.writing import SplitToWrite


def write_coco(folder: Path, splits: Sequence[SplitToWrite]) -> list[str]:
    """Write the annotations of all splits; all that a dataset holds is kept, to the last bit.

    Returns what was not kept, in sentences: nothing ever is.
    """
    (folder / "annotations").mkdir(parents=True)
    for split in splits:
        text = msgspec.json.encode(coco_tree(split.dataset, split.files))
        (folder / "annotations" / f"{split.name}.json").write_bytes(text)
    return []


def coco_tree(dataset: DetectionDataset, files: Sequence[str]) -> dict[str, Any]:
    """Return a dataset as COCO's instances; `files` are the names that the images get."""
    ids, names = dataset.categories.ids, dataset.categories.names
    sizes_px = dataset.sizes_px.tolist()
    return {
        "images": [
            {"id": id_, "file_name": file, "height": height, "width": width}
            for id_, file, (height, width) in zip(
                dataset.image_ids.tolist(), files, sizes_px, strict=True
            )
        ],
        "categories": [
            {"id": id_, "name": name} for id_, name in zip(ids, names, strict=True) if name
        ],
        "annotations": [
            _annotation(dataset, image, row)
            for image, (start, stop) in enumerate(
                zip(dataset.offsets[:-1].tolist(), dataset.offsets[1:].tolist(), strict=True)
            )
            for row in range(start, stop)
        ],
    }


def _annotation(dataset: DetectionDataset, image: int, row: int) -> dict[str, Any]:
    plain = {
        "id": int(dataset.annotation_ids[row]),
        "image_id": int(dataset.image_ids[image]),
        "category_id": dataset.categories.ids[dataset.class_indices[row]],
        "bbox": dataset.xywh_px[row].tolist(),
        "area": float(dataset.area_px[row]),
        "iscrowd": int(dataset.crowd[row]),
    }
    if dataset.segmentations is None:
        return plain
    runs = dataset.segmentations.run_lengths(row)
    if runs:
        return plain | {"segmentation": msgspec.Raw(runs.encode())}
    # By way of text, because 0.1 in float32 is 0.10000000149 in float64.
    rings = [
        ring.ravel().astype(str).astype(float).tolist() for ring in dataset.segmentations.rings(row)
    ]
    return plain | {"segmentation": rings}
