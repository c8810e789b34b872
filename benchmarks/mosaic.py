"""Mosaic augmentation: four images on one canvas, at half size (arXiv 2004.10934, section 3.3).

Every image of a micro-batch appears once in each quarter of some canvas, so each object is seen
four times. The model builds the canvases, since data loading handles one image at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from setmatch.losses.base import Loss, LossOutput
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.layers.cells import Cells
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.batch import Batch, Target
from setmatch.structures.outputs import PredictionGroup
from without import recomposed

MOSAIC_PROBABILITY = 0.5  # per micro-batch
QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # row, column


def make_mosaics(batch: Batch, targets: Sequence[Target]) -> tuple[Batch, tuple[Target, ...]]:
    """Return one mosaic per image, mosaic i of images i, i + 1, i + 2 and i + 3, and its targets.

    Padding becomes a gray part of the canvas.
    """
    images, _, height, width = batch.pixels.shape
    pixels = torch.empty_like(batch.pixels)
    for number, (row, column) in enumerate(QUARTERS):
        rows = slice(height // 2, None) if row else slice(height // 2)
        columns = slice(width // 2, None) if column else slice(width // 2)
        size = pixels[:, :, rows, columns].shape[-2:]
        small = F.interpolate(batch.pixels, size=size, mode="bilinear", antialias=True)
        pixels[:, :, rows, columns] = small.roll(-number, dims=0)
    valid_ratios = Cells(batch.valid).ratio()
    mosaic_targets = tuple(
        _concatenate(
            [
                _place(targets[other], valid_ratios[other], quarter, (height, width))
                for number, quarter in enumerate(QUARTERS)
                for other in [(image + number) % images]
            ]
        )
        for image in range(images)
    )
    return Batch(pixels, torch.ones_like(batch.valid), False), mosaic_targets


def _place(
    target: Target, valid_ratio: Tensor, quarter: tuple[int, int], size_px: tuple[int, int]
) -> Target:
    first = [side // 2 / side for side in size_px]  # fraction of the canvas in the first half
    row, column = quarter
    height, width = (
        1 - part if late else part for part, late in zip(first, (row, column), strict=True)
    )
    left, top = (first[1] if column else 0.0), (first[0] if row else 0.0)
    scale = valid_ratio.repeat(2) * valid_ratio.new_tensor([width, height, width, height])
    offset = valid_ratio.new_tensor([left, top, 0.0, 0.0])
    return Target(target.classes, target.cxcywh * scale + offset)


def _concatenate(targets: Sequence[Target]) -> Target:
    return Target(
        torch.cat([target.classes for target in targets]),
        torch.cat([target.cxcywh for target in targets]),
    )


@dataclass(frozen=True)
class MosaicOutput:
    """Training outputs of a model, their targets, and how often each target appears."""

    groups: tuple[PredictionGroup, ...]
    targets: tuple[Target, ...]
    repeats: int


@dataclass(frozen=True)
class MosaicLoss:
    """The set loss with the targets of the mosaics."""

    set_loss: Loss

    def __call__(
        self, outputs: MosaicOutput, targets: Sequence[Target], normalizer: LossNormalizer
    ) -> LossOutput:
        """Return the losses. Every target is counted as often as it appears."""
        boxes, matched, queries, images = normalizer.counts.unbind()
        repeats = outputs.repeats
        counts = torch.stack([boxes * repeats, matched * repeats, queries, images])
        return self.set_loss(outputs.groups, outputs.targets, LossNormalizer(counts))


class MosaicDetector(SetMatchDetector):
    """The setmatch detector, which trains on mosaics of every other micro-batch."""

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> Any:
        """Return the prediction groups; in training, with the targets they are matched to."""
        if not self.training:
            return super().forward(batch)
        if torch.rand(()) >= MOSAIC_PROBABILITY:
            return MosaicOutput(super().forward(batch, targets), tuple(targets), 1)
        mosaics, mosaic_targets = make_mosaics(batch, targets)
        groups = super().forward(mosaics, mosaic_targets)
        return MosaicOutput(groups, mosaic_targets, len(QUARTERS))

    def objective(self, set_loss: Any) -> Any:
        """Return the set loss with the targets of the mosaics."""
        return MosaicLoss(set_loss(self.class_loss))


def mosaic(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Return the detector with mosaic augmentation."""
    return recomposed(detector, MosaicDetector)
