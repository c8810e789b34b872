"""Decoded images: read once, within a bound of memory, and equal to those that are read anew."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from setmatch.config import DataSettings
from setmatch.data.batches.decoded_images import DecodedImages
from setmatch.data.batches.loader import Minibatch, training_batches
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.unreadable import UnreadableError
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.structures.metadata import Preprocessing

IMAGES, SIDE_PX = 6, 64
PIXEL_BYTES = 3 * SIDE_PX**2


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, IMAGES, 1, SIDE_PX, seed=0, workers=1)
    return root


@pytest.fixture
def dataset(scenes: Path) -> DetectionDataset:
    return open_dataset(scenes, "train")


def overwrite(dataset: DetectionDataset, image: int) -> None:
    """Replace the file of an image by one of black pixels."""
    Image.fromarray(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)).save(dataset.path(image))


@pytest.fixture
def copy(scenes: Path, tmp_path: Path) -> DetectionDataset:
    """The data set in files that a test may change."""
    for path in scenes.rglob("*"):
        target = tmp_path / path.relative_to(scenes)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return open_dataset(tmp_path, "train")


def test_an_image_that_fits_is_read_once(copy: DetectionDataset):
    images = DecodedImages(copy, masks=False, limit_bytes=10 * IMAGES * PIXEL_BYTES)
    pixels, target = images[2]
    overwrite(copy, 2)
    again, same_target = images[2]
    assert torch.equal(again, pixels)
    assert pixels.any()
    assert torch.equal(same_target.cxcywh, copy.target(2).cxcywh)
    assert torch.equal(target.classes, copy.target(2).classes)


@pytest.mark.parametrize("fitting", [0, 1, 3, IMAGES])
def test_memory_stays_within_the_bound(copy: DetectionDataset, fitting: int):
    """The first images stay; those that no longer fit are read again each time."""
    limit_bytes = int((fitting + 0.5) * PIXEL_BYTES)
    images = DecodedImages(copy, masks=False, limit_bytes=limit_bytes)
    for image in range(IMAGES):
        images[image]
        overwrite(copy, image)
    kept = [bool(images[image][0].any()) for image in range(IMAGES)]
    assert kept == [image < fitting for image in range(IMAGES)]
    assert images.kept_bytes <= limit_bytes
    assert images.kept_bytes >= fitting * PIXEL_BYTES


def test_an_image_that_cannot_be_read_is_tried_again(copy: DetectionDataset):
    """Its error is not kept, because the file may appear again, as on a network drive."""
    images = DecodedImages(copy, masks=False, limit_bytes=1 << 30)
    content = copy.path(1).read_bytes()
    copy.path(1).unlink()
    with pytest.raises(UnreadableError):
        images[1]
    copy.path(1).write_bytes(content)
    assert images[1][0].any()


def batches(
    dataset: DetectionDataset, augment: str, keep_decoded_mb: int, workers: int
) -> list[Minibatch]:
    settings = DataSettings(
        augment=augment,
        short_side_px=SIDE_PX,
        long_side_px=2 * SIDE_PX,
        workers=workers,
        keep_decoded_mb=keep_decoded_mb,
    )
    preprocessing = Preprocessing(SIDE_PX, 2 * SIDE_PX)
    return list(training_batches(dataset, settings, preprocessing, batch_size=4, steps=6))


@pytest.mark.crossed
@pytest.mark.parametrize("augment", ["none", "flip", "small", "detr"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_what_is_kept(
    dataset: DetectionDataset, augment: str, workers: int
):
    """No augmentation changes a kept image in place: four epochs are equal to the last bit."""
    for kept, read in zip(
        batches(dataset, augment, 512, workers), batches(dataset, augment, 0, 0), strict=True
    ):
        assert kept.image_ids == read.image_ids
        assert torch.equal(kept.batch.pixels, read.batch.pixels)
        for one, other in zip(kept.targets, read.targets, strict=True):
            assert torch.equal(one.cxcywh, other.cxcywh)
            assert torch.equal(one.classes, other.classes)


def test_masks_count_toward_the_bound(tmp_path: Path):
    write_scenes(tmp_path, 2, 1, SIDE_PX, seed=0, workers=1, panoptic=True)
    dataset = open_dataset(tmp_path, "train", "panoptic")
    plain, masked = (DecodedImages(dataset, masks, 1 << 30) for masks in (False, True))
    for images in (plain, masked):
        images[0]
    masks = masked[0][1].masks
    assert masks is not None
    assert masked.kept_bytes == plain.kept_bytes + masks.bits.nbytes
