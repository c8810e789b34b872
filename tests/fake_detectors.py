"""A detector of red pixels, and images for it."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from setmatch.losses.classification import Softmax
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.structures.outputs import PredictionGroup, Predictions

RED_OR_NOT = Categories((3, 8), ("red", "not red"))


class Recorded(list[Any]):
    """A list that a copy of a detector shares with it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recorded":
        return self


class RedFinder(Detector):
    """Predicts one box around the red pixels, and the same box with a low score."""

    def __init__(self) -> None:
        super().__init__()
        self.class_loss = Softmax()
        self.frozen = nn.Dropout()
        self.card = ModelCard("stub", {}, RED_OR_NOT, Preprocessing(64, 128))
        self.shapes, self.grad_enabled = Recorded(), Recorded()

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        assert not self.training
        assert not batch.padded
        self.shapes.append(tuple(batch.pixels.shape))
        self.grad_enabled.append(torch.is_grad_enabled())
        red = (batch.pixels[:, 0] > 1) & (batch.pixels[:, 1] < 0)
        height, width = red.shape[1:]
        x = (torch.arange(width) + 0.5) / width * red
        y = (torch.arange(height)[:, None] + 0.5) / height * red
        cxcywh = torch.stack(
            [
                x.sum((1, 2)) / red.sum((1, 2)),
                y.sum((1, 2)) / red.sum((1, 2)),
                red.any(1).sum(1) / width,
                red.any(2).sum(1) / height,
            ],
            dim=1,
        )
        logits = torch.tensor([[0.0, -5.0, 5.0], [5.0, 0.0, 0.0]]).expand(len(red), 2, 3)
        return (
            PredictionGroup(
                "main", Predictions(logits[None], torch.stack([cxcywh, cxcywh], 1)[None])
            ),
        )


def red_box_image(height: int, width: int, box: tuple[int, int, int, int]) -> torch.Tensor:
    """Return a gray image with a red box (x0, y0, x1, y1)."""
    image = torch.full((3, height, width), 120, dtype=torch.uint8)
    x0, y0, x1, y1 = box
    image[:, y0:y1, x0:x1] = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
    return image


def to_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


BOX = (32, 16, 64, 48)


def write_images(folder: Path) -> Path:
    """Write images of several shapes, in folders; one of the files is no image."""
    (folder / "in/deep").mkdir(parents=True)
    to_pil(red_box_image(64, 96, BOX)).save(folder / "in/a.png")
    to_pil(red_box_image(128, 128, BOX)).save(folder / "in/deep/a.png")
    to_pil(red_box_image(64, 96, (0, 0, 32, 32))).save(folder / "in/c.JPG", quality=95)
    (folder / "in/b.jpg").write_bytes(b"no image")
    (folder / "in/notes.txt").write_text("no image either")
    return folder
