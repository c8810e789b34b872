"""A COCO file of three small images without a flaw, to be given one flaw at a time."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.read import read_coco

IMAGE_NAMES = ("a.png", "b.png", "c.png")  # 40 high, 60 wide
Change = Callable[[dict[str, Any]], object]


def sound() -> dict[str, Any]:
    """Return a data set without flaws: two objects in a, a crowd in b, nothing in c."""
    return {
        "images": [
            {"id": 10 * (i + 1), "file_name": name, "height": 40, "width": 60}
            for i, name in enumerate(IMAGE_NAMES)
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [
            annotation(1, 10, 18, [6, 4, 30, 20]),
            annotation(2, 10, 3, [0, 0, 60, 40]),
            annotation(3, 20, 3, [0, 0, 30, 20], iscrowd=1),
        ],
    }


def annotation(id_: Any, image: Any, category: Any, bbox: Any, **more: Any) -> dict[str, Any]:
    plain = {"id": id_, "image_id": image, "category_id": category, "bbox": bbox}
    return plain | {"iscrowd": 0, "area": 100.0} | more


def edited(change: Change) -> dict[str, Any]:
    """Return the flawless data set with a change."""
    tree = copy.deepcopy(sound())
    change(tree)
    return tree


def write_images(folder: Path) -> Path:
    """Put the three images into a folder."""
    for name in IMAGE_NAMES:
        Image.new("RGB", (60, 40)).save(folder / name)
    return folder


def read(folder: Path, tree: Any) -> DetectionDataset:
    """Save a data set beside its images as set.json, and read it."""
    (folder / "set.json").write_text(json.dumps(tree))
    return read_coco(folder / "set.json")


def read_segmentations(folder: Path, *segmentations: object) -> DetectionDataset:
    """Return a data set of one image, with an object for each segmentation."""
    Image.new("RGB", (60, 40)).save(folder / "a.png")
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            annotation(i, 1, 1, [i, 1, 9, 9], area=9, segmentation=segmentation)
            for i, segmentation in enumerate(segmentations, start=1)
        ],
    }
    return read(folder, tree)


def image(row: int, **keys: Any) -> Change:
    return lambda tree: tree["images"][row].update(keys)


def category(row: int, **keys: Any) -> Change:
    return lambda tree: tree["categories"][row].update(keys)


def object_(row: int, **keys: Any) -> Change:
    return lambda tree: tree["annotations"][row].update(keys)


def without(key: str, row: int, *names: str) -> Change:
    return lambda tree: [tree[key][row].pop(name) for name in names]


def again(key: str, row: int, **keys: Any) -> Change:
    return lambda tree: tree[key].append(tree[key][row] | keys)
