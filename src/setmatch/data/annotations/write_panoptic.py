"""Write COCO panoptic: a JSON file of segments, and a PNG per image with segment ids as colors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from setmatch.data.images.writing import write_image
from setmatch.files.writing import write_text
from setmatch.structures.metadata import Categories

Record = Mapping[str, Any]


def write_png(path: Path, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write the segment ids of an image as colors. The file appears whole or not at all.

    `pixels` are those of `Segments.to_pixels`.
    """
    write_image(path, Image.fromarray(pixels), "PNG")


def panoptic_record(image_id: int, png: str, segments: Sequence[Record]) -> Record:
    """Return one image's entry in COCO panoptic annotations or results.

    `segments` are those of `Segments.to_dicts`.
    """
    return {"image_id": image_id, "file_name": png, "segments_info": list(segments)}


def write_panoptic_json(
    path: Path, images: Sequence[Record], annotations: Sequence[Record], categories: Categories
) -> None:
    """Write a COCO panoptic JSON file, as `read_panoptic` reads it."""
    listed = [
        {
            "id": id_,
            "name": categories.name(class_index),
            "isthing": int(class_index not in categories.stuff),
        }
        for class_index, id_ in enumerate(categories.ids)
    ]
    tree = {"images": list(images), "annotations": list(annotations), "categories": listed}
    write_text(path, json.dumps(tree, ensure_ascii=False) + "\n")
