"""Four pictures on one canvas, each at half its sides (arXiv 2004.10934, section 3.3).

Pictures of one micro-batch share canvases, each of them once in each quarter, so that the whole
batch is seen four times as small and as often. The model puts them together, since what reads
pictures knows one at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from setmatch.losses.base import Loss, LossOutput
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.layers.hybrid_encoder import valid_ratio_of
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.batch import Batch, Target
from setmatch.structures.outputs import PredictionGroup
from without import recomposed

SHARE = 0.5  # of the micro-batches
QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # row, column


def together(batch: Batch, targets: Sequence[Target]) -> tuple[Batch, tuple[Target, ...]]:
    """Return as many canvases, canvas i with pictures i, i + 1, i + 2 and i + 3, and what is there.

    What pads a picture becomes a gray part of the canvas.
    """
    images, _, height, width = batch.pixels.shape
    pixels = torch.empty_like(batch.pixels)
    for number, (row, column) in enumerate(QUARTERS):
        rows = slice(height // 2, None) if row else slice(height // 2)
        columns = slice(width // 2, None) if column else slice(width // 2)
        size = pixels[:, :, rows, columns].shape[-2:]
        small = F.interpolate(batch.pixels, size=size, mode="bilinear", antialias=True)
        pixels[:, :, rows, columns] = small.roll(-number, dims=0)
    extents = valid_ratio_of(batch)
    found = tuple(
        _joined(
            [
                _placed(targets[other], extents[other], quarter, (height, width))
                for number, quarter in enumerate(QUARTERS)
                for other in [(image + number) % images]
            ]
        )
        for image in range(images)
    )
    return Batch(pixels, torch.ones_like(batch.valid), False), found


def _placed(
    target: Target, extent: Tensor, quarter: tuple[int, int], size_px: tuple[int, int]
) -> Target:
    first = [side // 2 / side for side in size_px]  # of the canvas, that the first half has
    row, column = quarter
    height, width = (
        1 - part if late else part for part, late in zip(first, (row, column), strict=True)
    )
    left, top = (first[1] if column else 0.0), (first[0] if row else 0.0)
    scale = extent.repeat(2) * extent.new_tensor([width, height, width, height])
    return Target(target.classes, target.cxcywh * scale + extent.new_tensor([left, top, 0.0, 0.0]))


def _joined(targets: Sequence[Target]) -> Target:
    return Target(
        torch.cat([target.classes for target in targets]),
        torch.cat([target.cxcywh for target in targets]),
    )


@dataclass(frozen=True)
class Seen:
    """What a model in training answers, what was there, and how many times over."""

    streams: tuple[PredictionGroup, ...]
    targets: tuple[Target, ...]
    times: int


@dataclass(frozen=True)
class OfSeen:
    """The set loss of what the model was shown in the end."""

    set_loss: Loss

    def __call__(
        self, seen: Seen, targets: Sequence[Target], normalizer: LossNormalizer
    ) -> LossOutput:
        """Return the losses; every target counts as often as it was seen."""
        boxes, matched, class_indices, images = normalizer.counts.unbind()
        counts = torch.stack([boxes * seen.times, matched * seen.times, class_indices, images])
        return self.set_loss(seen.streams, seen.targets, LossNormalizer(counts))


class MosaicDetector(SetMatchDetector):
    """The family, which in training puts together every other micro-batch."""

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> Any:
        """Return the streams; in training, also what they are to be held against."""
        if not self.training:
            return super().forward(batch)
        if torch.rand(()) >= SHARE:
            return Seen(super().forward(batch, targets), tuple(targets), 1)
        shown, found = together(batch, targets)
        return Seen(super().forward(shown, found), found, len(QUARTERS))

    def objective(self, set_loss: Any) -> Any:
        """Return the set loss of what was shown."""
        return OfSeen(set_loss(self.class_loss))


def mosaic(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Let a detector see four pictures at once, every other time."""
    return recomposed(detector, MosaicDetector)
