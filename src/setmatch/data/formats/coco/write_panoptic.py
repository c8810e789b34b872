"""COCO panoptic: a JSON file of segments, and a PNG for each image with their ids as colors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from setmatch.files import atomic_file
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments

Record = Mapping[str, Any]


def write_png(path: Path, segments: Segments) -> None:
    """Write the ids of an image's segments as colors; the file appears whole or not at all."""
    with atomic_file(path) as aside:
        Image.fromarray(segments.to_pixels()).save(aside, format="PNG")


def panoptic_record(image_id: int, png: str, segments: Segments) -> Record:
    """Return what COCO's panoptic annotations and results say of one image and its PNG file."""
    return {"image_id": image_id, "file_name": png, "segments_info": segments.to_dicts()}


def write_panoptic_json(
    path: Path, images: Sequence[Record], annotations: Sequence[Record], categories: Categories
) -> None:
    """Write a COCO panoptic file of images and their records, read again by `read_panoptic`."""
    known = [
        {
            "id": id_,
            "name": categories.name(class_index),
            "isthing": int(class_index not in categories.stuff),
        }
        for class_index, id_ in enumerate(categories.ids)
    ]
    tree = {"images": list(images), "annotations": list(annotations), "categories": known}
    with atomic_file(path) as aside:
        aside.write_text(json.dumps(tree, ensure_ascii=False) + "\n", encoding="utf-8")
