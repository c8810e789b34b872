"""Training images per second on one core, compared with the published pipeline in PIL.

    python benchmarks/data_pipeline.py --images FOLDER [--count 64] [--rounds 5] [--json FILE]

FOLDER has photographs, ideally of 640×480 pixels. Both pipelines draw random sizes from the same
distributions. The published one is written here after its paper and code, with PIL up to the
tensor.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from setmatch.data.batches.transforms import Transform, training_transform
from setmatch.data.images.image_io import read_image
from setmatch.data.images.image_paths import find_images
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from timing import publish, time_interleaved

SIZES = range(480, 801, 32)
BATCH = 2
Augment = Callable[[Image.Image, Tensor], tuple[Image.Image, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = find_images([options.images])[: options.count]
    boxes = torch.rand(12, 4) * 100 + torch.tensor([0.0, 0.0, 150.0, 150.0])
    results: dict[str, object] = {"photographs": len(paths)}
    for augment, theirs in (("detr", published), ("none", plain)):
        transform = training_transform(augment, Preprocessing())
        ways = {
            "setmatch": partial(ours, paths, boxes, transform),
            "published": partial(reference, paths, boxes, theirs),
        }
        seconds = time_interleaved(ways, options.rounds)
        ratio = round(seconds["published"] / seconds["setmatch"], 2)
        results[augment] = {"ratio": ratio}
    publish("Training data pipeline, images per second on one core", results, options.json)


def ours(paths: Sequence[Path], xyxy_px: Tensor, transform: Transform) -> None:
    """Run setmatch's pipeline in this process, as its loader does."""
    random.seed(0)
    torch.manual_seed(0)
    for start in range(0, len(paths), BATCH):
        images = []
        for path in paths[start : start + BATCH]:
            pixels = read_image(path)
            height, width = pixels.shape[1:]
            scale = torch.tensor([width, height, width, height])
            low, high = xyxy_px[:, :2], xyxy_px[:, 2:]
            cxcywh = torch.cat([(low + high) / 2, high - low], dim=1) / scale
            target = Target(torch.zeros(len(cxcywh), dtype=torch.int64), cxcywh)
            images.append(transform(pixels, target)[0])
        Batch.from_images(images)


def reference(paths: Sequence[Path], xyxy_px: Tensor, augment: Augment) -> None:
    """Run the published pipeline: PIL up to the tensor, then normalization, then padding."""
    random.seed(0)
    for start in range(0, len(paths), BATCH):
        images = []
        for path in paths[start : start + BATCH]:
            image, boxes = augment(Image.open(path).convert("RGB"), xyxy_px)
            images.append(to_tensor(image, boxes))
        collate(images)


def published(image: Image.Image, boxes: Tensor) -> tuple[Image.Image, Tensor]:
    """Apply a random flip, then a resize, or a resize, crop and resize."""
    if random.random() < 0.5:
        width = image.width
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes = boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor(
            [width, 0, width, 0]
        )
    if random.random() < 0.5:
        return resize(image, boxes, random.choice(SIZES), 1333)
    image, boxes = resize(image, boxes, random.choice((400, 500, 600)), None)
    image, boxes = crop(image, boxes)
    return resize(image, boxes, random.choice(SIZES), 1333)


def plain(image: Image.Image, boxes: Tensor) -> tuple[Image.Image, Tensor]:
    return resize(image, boxes, 800, 1333)


def resize(
    image: Image.Image, boxes: Tensor, short: int, longest: int | None
) -> tuple[Image.Image, Tensor]:
    width, height = image.size
    low, high = sorted((width, height))
    if longest is not None and high / low * short > longest:
        short = round(longest * low / high)
    size = (
        (short, int(short * height / width))
        if width < height
        else (
            int(short * width / height),
            short,
        )
    )
    # torchvision's resize of a PIL image: bilinear, with PIL's own antialiasing.
    resized = image.resize(size, Image.Resampling.BILINEAR)
    scale = [size[0] / width, size[1] / height] * 2
    return resized, boxes * torch.tensor(scale)


def crop(image: Image.Image, boxes: Tensor) -> tuple[Image.Image, Tensor]:
    w = random.randint(384, min(image.width, 600))
    h = random.randint(384, min(image.height, 600))
    x, y = random.randint(0, image.width - w), random.randint(0, image.height - h)
    boxes = (boxes - torch.tensor([x, y, x, y])).reshape(-1, 2, 2)
    boxes = torch.min(boxes, torch.tensor([w, h])).clamp(min=0)
    keep = (boxes[:, 1] > boxes[:, 0]).all(dim=1)
    return image.crop((x, y, x + w, y + h)), boxes[keep].reshape(-1, 4)


def to_tensor(image: Image.Image, boxes: Tensor) -> tuple[Tensor, Tensor]:
    pixels = F.normalize(F.to_tensor(image), IMAGENET_MEAN, IMAGENET_STD)
    low, high = boxes[:, :2], boxes[:, 2:]
    cxcywh = torch.cat([(low + high) / 2, high - low], dim=1)
    return pixels, cxcywh / torch.tensor([image.width, image.height] * 2)


def collate(samples: Sequence[tuple[Tensor, Tensor]]) -> None:
    images = [pixels for pixels, _ in samples]
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    pixels = torch.zeros(len(images), 3, height, width)
    mask = torch.ones(len(images), height, width, dtype=torch.bool)
    for image, place, hidden in zip(images, pixels, mask, strict=True):
        place[:, : image.shape[1], : image.shape[2]].copy_(image)
        hidden[: image.shape[1], : image.shape[2]] = False


if __name__ == "__main__":
    main()
