"""Boxes as files write them, in any convention, and whole COCO, YOLO and VOC data sets of them."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from setmatch.data.annotations.box_convention import (
    CXCYWH_RELATIVE,
    XYWH_PX,
    XYXY_PX,
    BoxConvention,
    Layout,
    Unit,
)

# Without percent, which is recognized only in images of at least 200 pixels.
UNITS: tuple[Unit, ...] = ("pixels", "relative")
CONVENTIONS = [BoxConvention(*each) for each in product(get_args(Layout), UNITS)]
FORMATS = {"coco": XYWH_PX, "yolo": CXCYWH_RELATIVE, "voc": XYXY_PX}


def written(xywh_px: np.ndarray, sizes_px: np.ndarray, convention: BoxConvention) -> np.ndarray:
    """Return the four numbers of each box in a convention."""
    low, extent = xywh_px[:, :2], xywh_px[:, 2:]
    if convention.layout in ("xyxy", "yxyx"):
        values = np.concatenate([low, low + extent], axis=1)
    elif convention.layout == "cxcywh":
        values = np.concatenate([low + extent / 2, extent], axis=1)
    else:
        values = xywh_px
    if convention.unit != "pixels":
        values = values / np.tile(sizes_px[:, ::-1], 2) * convention.whole
    return values[:, [1, 0, 3, 2]] if convention.layout == "yxyx" else values


def random_boxes(
    seed: int,
    count: int,
    height: int = 72,
    width: int = 96,
    sides: tuple[float, float] = (0.1, 0.5),
) -> np.ndarray:
    """Return boxes inside of an image, anywhere; `sides` are fractions of the image's."""
    random = np.random.default_rng(seed)
    extent = random.uniform(*sides, (count, 2)) * (width, height)
    low = random.uniform(0, 1, (count, 2)) * ((width, height) - extent)
    return np.concatenate([low, extent], axis=1)


def write_set(
    root: Path,
    format: str,
    values: np.ndarray,
    height: int = 72,
    width: int = 96,
    more: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write a data set of one class, train alone, with two boxes an image; numbers as given.

    `more` are further keys of the COCO annotations.
    """
    images = root / ("images" if format == "coco" else "images/train")
    images.mkdir(parents=True)
    names = [f"{number}.png" for number in range(-(-len(values) // 2))]
    for name in names:
        Image.new("RGB", (width, height)).save(images / name)
    rows = values.tolist()
    if format == "coco":
        tree = {
            "images": [
                {"id": i, "file_name": name, "height": height, "width": width}
                for i, name in enumerate(names)
            ],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": i + 1, "image_id": i // 2, "category_id": 1, "bbox": row, "iscrowd": 0}
                | {"area": row[2] * row[3]}
                | (more[i] if more else {})
                for i, row in enumerate(rows)
            ],
        }
        (root / "annotations").mkdir()
        (root / "annotations" / "train.json").write_text(json.dumps(tree))
    folder = root / "labels" / "train"
    for number, name in enumerate(names if format != "coco" else ()):
        of_image = rows[2 * number : 2 * number + 2]
        if format == "yolo":
            folder.mkdir(parents=True, exist_ok=True)
            lines = (" ".join(map(repr, (0, *row))) + "\n" for row in of_image)
            (folder / name).with_suffix(".txt").write_text("".join(lines))
        else:
            objects = "".join(
                "<object><name>cat</name><bndbox>"
                f"<xmin>{a!r}</xmin><ymin>{b!r}</ymin><xmax>{c!r}</xmax><ymax>{d!r}</ymax>"
                "</bndbox></object>\n"
                for a, b, c, d in of_image
            )
            size = f"<size><width>{width}</width><height>{height}</height></size>"
            text = f"<annotation><filename>{name}</filename>{size}\n{objects}</annotation>\n"
            (images / name).with_suffix(".xml").write_text(text)
    return root
