"""Write COCO instances: annotations/{split}.json, with the images in images/{split}/."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.writing import SplitToWrite, utf8_name


def write_coco(folder: Path, splits: Sequence[SplitToWrite]) -> list[str]:
    """Write all splits. COCO holds everything a DetectionDataset does, to the last bit.

    Returns no sentences, because nothing is lost.
    """
    (folder / "annotations").mkdir(parents=True)
    for split in splits:
        files = list(map(utf8_name, split.dataset.file_names()))
        split.place_images(folder / "images" / split.name, files)
        text = msgspec.json.encode(coco_tree(split.dataset, files))
        (folder / "annotations" / f"{split.name}.json").write_bytes(text)
    return []


def coco_tree(dataset: DetectionDataset, files: Sequence[str]) -> dict[str, Any]:
    """Return the content of a COCO instances file, with `files` as the images' file names."""
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
            for image in range(len(dataset))
            for row in dataset.rows(image)
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
    segmentations = dataset.segmentations
    if segmentations is None:
        return plain
    run_lengths = segmentations.run_lengths(row)
    if run_lengths:
        return plain | {"segmentation": msgspec.Raw(run_lengths.encode())}
    return plain | {"segmentation": polygons(dataset, row)}


def polygons(dataset: DetectionDataset, row: int) -> list[list[float]]:
    """Return the polygons of an annotation as COCO writes them; none where it has none."""
    if dataset.segmentations is None:
        return []
    # Converted by way of text, because 0.1 in float32 is 0.10000000149 in float64.
    rings = dataset.segmentations.rings(row)
    return [ring.ravel().astype(str).astype(float).tolist() for ring in rings]
