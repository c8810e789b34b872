"""The audit finds boxes in the pixels of files that are smaller than their annotations say."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.audit.audit import audit
from setmatch.data.audit.checks.stored_size import check_stored_size
from setmatch.data.audit.preflight import check_data
from setmatch.data.open import open_dataset
from setmatch.structures.metadata import Preprocessing
from written_boxes import random_boxes

KIND = "boxes in the pixels of smaller image files"
ANNOTATED = (400, 600)  # height, width
VOC = (
    "<annotation><filename>{name}</filename><size><width>600</width><height>400</height></size>"
    "{objects}</annotation>"
)
OBJECT = (
    "<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    "</bndbox></object>"
)


def write(root: Path, format: str, scale: float, boxes: np.ndarray, images: int = 4) -> Path:
    """Write files at a scale of the annotated size, with boxes as given."""
    names = [f"{number}.png" for number in range(images)]
    for name in names:
        size = (round(ANNOTATED[1] * scale), round(ANNOTATED[0] * scale))
        Image.new("L", size).save(root / name)
    if format == "voc":
        for number, name in enumerate(names):
            corners = [(x, y, x + w, y + h) for x, y, w, h in boxes[number::images].tolist()]
            text = VOC.format(name=name, objects="".join(OBJECT.format(*each) for each in corners))
            (root / f"{number}.xml").write_text(text)
        return root
    tree = {
        "images": [
            {"id": number, "file_name": name, "height": ANNOTATED[0], "width": ANNOTATED[1]}
            for number, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": number, "image_id": number % images, "category_id": 1, "bbox": box}
            for number, box in enumerate(boxes.round(2).tolist())
        ],
    }
    (root / "train.json").write_text(json.dumps(tree))
    return root


@pytest.mark.parametrize("format", ["coco", "voc"])
@pytest.mark.parametrize("scale", [0.25, 0.5, 0.85, 1, 1.5])
@pytest.mark.parametrize("of_files", [True, False])
def test_boxes_in_pixels_of_smaller_files_are_found(
    tmp_path: Path, format: str, scale: float, of_files: bool
):
    """Not where images were resized alone, since boxes are in the annotated size then."""
    frame = scale if of_files and scale < 1 else 1
    boxes = random_boxes(1, 80, ANNOTATED[0] * frame, ANNOTATED[1] * frame)
    dataset = open_dataset(write(tmp_path, format, scale, boxes), "train")
    found = list(check_stored_size("train", dataset))
    assert len(found) == (of_files and scale < 1)
    for each in found:
        assert (each.severity, each.kind, each.split) == ("error", KIND, "train")
        side = round(600 * scale)
        assert f"is {side}×{round(400 * scale)}, annotated as 600×400" in each.value


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        (random_boxes(1, 4, 200, 300), "few boxes"),
        (random_boxes(1, 80, 60, 90), "all at the left top of the files, too"),
        (np.concatenate([random_boxes(1, 76, 200, 300), [[400, 300, 50, 50]] * 4]), "some beyond"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_boxes_are_no_finding(tmp_path: Path, boxes: np.ndarray, reason: str):
    dataset = open_dataset(write(tmp_path, "coco", 0.5, boxes), "train")
    assert not list(check_stored_size("train", dataset)), reason


def test_audit_and_training_say_it(tmp_path: Path):
    root = write(tmp_path, "coco", 0.5, random_boxes(1, 80, 200, 300))
    found = audit(root, has_gpu=False)
    assert KIND in [each.kind for each in found.findings if each.severity == "error"]
    check = check_data(open_dataset(root, "train"), None, 100, Preprocessing())
    assert any(KIND in sentence for sentence in check.sentences())
