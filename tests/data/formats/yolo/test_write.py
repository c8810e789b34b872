"""YOLO's fractions are of the image as its tools show it: upright, and of the shape it has."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.convert import Conversion, convert_dataset
from setmatch.data.images.decoding import read_pixels
from setmatch.data.open import open_dataset
from setmatch.errors import DataError

BOX = (10, 6, 30, 12)  # x, y, width, height in the stored image of 64 × 48
TRIANGLE = [10, 6, 40, 6, 10, 18]


def _coco(root: Path, sizes_px: list[tuple[int, int]], orientation: int, masks: bool) -> Path:
    """Write images of which a red rectangle is the object; sizes are the annotated ones."""
    (root / "images").mkdir(parents=True)
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    x, y, w, h = BOX
    pixels[y : y + h, x : x + w, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(len(sizes_px)):
        Image.fromarray(pixels).save(root / f"images/{number}.png", exif=exif)
    tree = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": height, "width": width}
            for i, (height, width) in enumerate(sizes_px)
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": BOX, "area": 360, "iscrowd": 0}
            | ({"segmentation": [TRIANGLE]} if masks else {})
            for i in range(len(sizes_px))
        ],
    }
    (root / "train.json").write_text(json.dumps(tree))
    return root


def _converted(root: Path) -> tuple[Conversion, Path]:
    return convert_dataset(root, root / "yolo", "yolo", ["train"]), root / "yolo"


@pytest.mark.crossed
@pytest.mark.parametrize("masks", [False, True], ids=["box", "polygon"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_stays_on_its_object_however_the_image_is_stored(
    tmp_path: Path, orientation: int, masks: bool
):
    """Images that are stored sideways are annotated as they are stored here."""
    root = _coco(tmp_path, [(48, 64)] * 2, orientation, masks)
    before = open_dataset(root / "train.json", "train")
    seen = read_pixels(before.path(0), before.size_px(0))
    conversion, yolo = _converted(root)
    turned = any("boxes turned" in note for note in conversion.notes)
    assert turned == (orientation >= 5)
    dataset = open_dataset(yolo, "train", "yolo")
    pixels = read_pixels(dataset.path(0), dataset.size_px(0))
    assert pixels.shape == ((64, 48, 3) if orientation >= 5 else (48, 64, 3))
    if orientation < 5:  # upright shape is the stored one, so that the image was annotated upright
        assert np.array_equal(pixels, seen)
        assert dataset.xywh_px[0].round(6).tolist() == list(BOX)
        return
    rows, columns = np.nonzero(pixels[..., 0] > 127)
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    x, y, w, h = dataset.xywh_px[0].round(4).tolist()
    assert (x, y, x + w, y + h) == (*low, *high)
    if masks:
        assert dataset.segmentations is not None
        points = dataset.segmentations.rings(0)[0]
        assert len(points) == 3
        assert points.min(axis=0).round(3).tolist() == list(low)


def test_images_that_were_annotated_upright_keep_their_boxes(tmp_path: Path):
    root = _coco(tmp_path, [(64, 48)] * 2, 6, masks=False)
    conversion, yolo = _converted(root)
    assert not any("turned" in note for note in conversion.notes)
    boxes = open_dataset(yolo, "train", "yolo").xywh_px.round(4).tolist()
    assert boxes == [list(map(float, BOX))] * len(boxes)


def test_few_images_of_another_shape_are_left_out_and_counted(tmp_path: Path):
    root = _coco(tmp_path, [(64, 48)] + [(48, 64)] * 29, 1, masks=False)
    conversion, yolo = _converted(root)
    assert any("1 images: of another shape" in note for note in conversion.notes)
    assert not list(yolo.rglob("0.*"))
    assert len(list((yolo / "images/train").iterdir())) == 29
    assert len(list((yolo / "labels/train").iterdir())) == 29


def test_many_images_of_another_shape_are_refused(tmp_path: Path):
    root = _coco(tmp_path, [(64, 48)] * 3, 1, masks=False)
    with pytest.raises(DataError, match="3 of 3 image files have another shape than they are"):
        _converted(root)
    assert not (root / "yolo").exists()


@pytest.mark.parametrize("scale", [2, 0.5])
def test_images_that_were_scaled_after_their_annotation_are_converted(tmp_path: Path, scale):
    root = _coco(tmp_path, [(int(48 * scale), int(64 * scale))] * 2, 1, masks=False)
    _, yolo = _converted(root)
    box = open_dataset(yolo, "train", "yolo").xywh_px[0]
    assert box.round(4).tolist() == [side / scale for side in BOX]
