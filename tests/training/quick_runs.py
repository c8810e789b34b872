"""A tiny detector that trains in seconds, on images of colored boxes."""

import json
from dataclasses import dataclass

import numpy as np
from PIL import Image

from setmatch.models.backbones.small_cnn import SmallCNN
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.presets import _multi_scale
from setmatch.training.train import train

COLORS = {"red": (230, 40, 40), "green": (40, 230, 40), "blue": (40, 60, 230)}
SHAPE = MultiScaleShape(
    num_queries=8,
    dim=32,
    heads=2,
    decoder_layers=2,
    ffn_dim=32,
    points=2,
    denoising_queries=16,
)


def quick(num_classes, shape=SHAPE):
    return _multi_scale(SmallCNN((16, 16, 24, 32)), num_classes, shape)


RECIPE = {
    "model": {"preset": "quick"},
    "data": {"augment": "none", "short_side_px": 64, "long_side_px": 64, "workers": 0},
    "matching": {"class": 2},
    "train": {
        "epochs": 20,
        "batch_size": 16,
        "micro_batch": 16,
        "lr": 2e-3,
        "backbone_lr": 2e-3,
        "muon_lr": 0.02,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "warmup_steps": 10,
        "ema_decay": 0.95,
        "evaluate_every": 5,
        "precision": "float32",
        "log_every": 4,
    },
}


@dataclass(frozen=True)
class Split:
    """The images of a split; with `outgrown` the boxes have half the size of their objects."""

    images: int
    colors: tuple[str, ...] = ("red", "green")
    outgrown: bool = False


def write(folder, size=64, **splits):
    """Write images with one or two colored boxes on noise, as COCO with three color classes."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for name, split in splits.items():
        random = np.random.default_rng(len(name))
        categories = [{"id": i, "name": color} for i, color in enumerate(COLORS)]
        tree = {"images": [], "annotations": [], "categories": categories}
        for image in range(split.images):
            pixels = random.integers(0, 60, (size, size, 3), dtype=np.uint8)
            for half in range(1 + image % 2):
                w, h = random.integers(14, 28, 2).tolist()
                x = size // 2 * half + int(random.integers(0, size // 2 - w))
                y = int(random.integers(0, size - h))
                color = str(random.choice(split.colors))
                pixels[y : y + h, x : x + w] = COLORS[color]
                tree["annotations"].append(
                    {
                        "id": len(tree["annotations"]) + 1,
                        "image_id": image,
                        "category_id": list(COLORS).index(color),
                        "bbox": [side / (1 + split.outgrown) for side in (x, y, w, h)],
                        "area": w * h,
                        "iscrowd": 0,
                    }
                )
            file = f"{name}_{image}.png"
            Image.fromarray(pixels).save(folder / "images" / file)
            tree["images"].append({"id": image, "file_name": file, "width": size, "height": size})
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(tree))
    return folder


def run_quick(data, out, *overrides, weights="none", resume=False):
    """Train the quick detector on `data` and return the run."""
    return train(
        data,
        out=out,
        weights=weights,
        recipe=RECIPE,
        overrides=overrides,
        resume=resume,
        device="cpu",
    )
