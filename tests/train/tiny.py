"""A detector of 6,000 parameters, data for it, and a command line that trains it.

Run as a script it is a whole process to be killed: `python tiny.py OUT DATA [key=value...]`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from setmatch.models.attention import PostNorm
from setmatch.models.backbone import Backbone
from setmatch.models.decoder import Decoder
from setmatch.models.detector import Detector
from setmatch.models.encoder import Encoder
from setmatch.models.heads import BoxHead
from setmatch.models.position import PositionAtAttention, SinePosition
from setmatch.models.presets import (
    MODELS,
    DetrShape,
    _decoder_layers,
    _encoder_layers,
)
from setmatch.models.queries import LearnedQueries
from setmatch.scoring import Softmax

SHAPE = DetrShape(
    num_queries=6, dim=16, heads=2, encoder_layers=1, decoder_layers=2, ffn_dim=16, dropout=0.0
)


class TinyTrunk(Backbone):
    """One convolution, with or without a trained norm."""

    def __init__(self, norm):
        nn.Module.__init__(self)
        self.body = nn.Module()
        self.body.conv1 = nn.Conv2d(3, 8, 16, stride=16)
        self.body.bn1 = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.channels = (8,)

    def forward(self, pixels):
        return (self.body.bn1(self.body.conv1(pixels)).relu(),)


def _tiny(norm, num_classes, shape):
    return Detector(
        TinyTrunk(norm),
        PositionAtAttention(8, shape.dim, SinePosition(shape.dim)),
        Encoder(_encoder_layers(shape, PostNorm), nn.Identity()),
        LearnedQueries(shape.num_queries, shape.dim),
        Decoder(_decoder_layers(shape, PostNorm), shape.dim),
        nn.Linear(shape.dim, Softmax().num_logits(num_classes)),
        BoxHead(shape.dim, shape.dim, shape.dim, 4),
        Softmax(),
    )


def tiny(num_classes, shape=SHAPE):
    return _tiny(False, num_classes, shape)


def tiny_norm(num_classes, shape=SHAPE):
    return _tiny(True, num_classes, shape)


MODELS["tiny"] = tiny
MODELS["tiny_norm"] = tiny_norm

RECIPE = {
    "model": {"preset": "tiny", "arguments": {"dropout": 0.1}},
    "data": {"augment": "none", "short_side_px": 64, "long_side_px": 64, "workers": 0},
    "train": {
        "epochs": 3,
        "batch_size": 4,
        "micro_batch": 2,
        "lr": 1e-3,
        "backbone_lr": 1e-3,
        "precision": "float32",
        "checkpoint_every": 3,
        "log_every": 2,
        "ema_decay": 0.99,
    },
}


def write_data(folder, images=10, splits=("train",), size=64):
    """Write bright squares on noise as COCO with ids that have holes; image i has i % 3 objects."""
    for split in splits:
        chance = np.random.default_rng(len(split))
        tree = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 3, "name": "square"}, {"id": 7, "name": "other"}],
        }
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        for image in range(images):
            pixels = chance.integers(0, 60, (size, size, 3), dtype=np.uint8)
            name = f"{split}_{image}.png"
            for _ in range(image % 3):
                x, y = chance.integers(0, size - 20, 2).tolist()
                pixels[y : y + 20, x : x + 16] = chance.integers(150, 255, 3)
                tree["annotations"].append(
                    {
                        "id": len(tree["annotations"]) + 1,
                        "image_id": image + 100,
                        "category_id": 3 if x % 2 else 7,
                        "bbox": [x, y, 16, 20],
                        "area": 320,
                        "iscrowd": 0,
                    }
                )
            Image.fromarray(pixels).save(folder / "images" / name)
            tree["images"].append(
                {"id": image + 100, "file_name": name, "width": size, "height": size}
            )
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(tree))
    return folder


if __name__ == "__main__":
    import torch

    from setmatch.errors import SetmatchError
    from setmatch.train.loop import train

    torch.set_num_threads(1)
    out, data, *overrides = sys.argv[1:]
    try:
        train(data, out=Path(out), recipe=RECIPE, overrides=overrides, resume=True, device="cpu")
    except SetmatchError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
