"""Images that are stored turned but annotated upright: boxes lie on their objects."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.images.image_io import read_image
from setmatch.data.open import open_dataset
from small_voc import DOG, xml

BOX = [6, 4, 30, 20]  # x, y, width, height in 60 × 40 pixels; small_voc's DOG is the same
TURNS = {1: 0, 3: 2, 6: 1, 8: -1}  # quarter turns by which each orientation is stored


def write(root: Path, kind: str, orientation: int) -> None:
    (root / "images").mkdir()
    seen = np.zeros((40, 60, 3), dtype=np.uint8)
    seen[4:24, 6:36] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(seen, TURNS[orientation])))
    stored.save(root / "images/a.png", exif=exif)
    if kind == "yolo":
        (root / "data.yaml").write_text("names: [dog]\ntrain: images\n")
        (root / "labels").mkdir()
        (root / "labels/a.txt").write_text("0 0.35 0.35 0.5 0.5\n")
    elif kind == "voc":
        (root / "Annotations").mkdir()
        (root / "Annotations/a.xml").write_text(xml(DOG))
    else:
        sizes = {"width": 60, "height": 40} if kind == "coco" else {}
        tree = {
            "images": [{"id": 1, "file_name": "a.png"} | sizes],
            "categories": [{"id": 1, "name": "dog"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX, "area": 9, "iscrowd": 0}
            ],
        }
        (root / "train.json").write_text(json.dumps(tree))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["coco", "coco without sizes", "yolo", "voc"])
def test_boxes_lie_on_their_objects(tmp_path: Path, kind: str, orientation: int):
    """rf-detr #189: in every format, the box is where the white pixels are."""
    write(tmp_path, kind, orientation)
    dataset = open_dataset(tmp_path, "train")
    assert dataset.size_px(0) == (40, 60)
    white = read_image(dataset.path(0), dataset.size_px(0))[0] > 127
    rows, columns = white.any(dim=1).nonzero(), white.any(dim=0).nonzero()
    width, height = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
    assert [columns.min(), rows.min(), width, height] == BOX
    np.testing.assert_allclose(dataset.target(0).cxcywh, [[0.35, 0.35, 0.5, 0.5]], atol=1e-6)
