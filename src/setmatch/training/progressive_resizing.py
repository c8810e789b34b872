"""Pictures that grow with training: half their sides teach most of it in a quarter of the time."""

from dataclasses import replace

from torch.nn import functional as F
from torchvision.transforms.v2 import functional as T

from setmatch.data.loader import Minibatch
from setmatch.structures.batch import Batch, Target
from setmatch.structures.packed_masks import PackedMasks

FIRST = 0.5  # of their sides, which pictures begin with
CELL_PX = 32  # sides grow by whole cells of the coarsest features
LEAST_PX = 128  # of a side: smaller pictures taught worse than they were fast (LOG.md)


def resolution_scale(progress: float, full_size_at: float) -> float:
    """Return the share of their sides that pictures have at `progress`: all of it from
    `full_size_at` on.

    It grows evenly from a half. Both are parts of the run, 0 to 1.
    """
    return FIRST + (1 - FIRST) * progress / full_size_at if progress < full_size_at else 1.0


def downscale(minibatch: Minibatch, share: float) -> Minibatch:
    """Return the minibatch with about this share of its canvas' sides; 1 leaves it as it is.

    Boxes are fractions and stay. A picture that would get too small to learn from stays larger.
    """
    full = minibatch.batch.valid.shape[1:]
    size = [_side(side, share) for side in full]
    if share >= 1 or size == list(full):
        return minibatch
    batch = minibatch.batch
    pixels = F.interpolate(batch.pixels, size=size, mode="bilinear", antialias=True)
    valid = F.interpolate(batch.valid[:, None].float(), size=size)[:, 0] > 0
    scale = [new / old for new, old in zip(size, full, strict=True)]
    return replace(
        minibatch,
        batch=Batch(pixels, valid, batch.padded),
        targets=tuple(_target(target, scale) for target in minibatch.targets),
    )


def _side(full_px: int, share: float) -> int:
    return min(full_px, max(CELL_PX * round(full_px * share / CELL_PX), LEAST_PX))


def _target(target: Target, scale: list[float]) -> Target:
    if target.masks is None:
        return target
    planes = target.masks.planes()
    size = [max(round(old * by), 1) for old, by in zip(planes.shape[1:], scale, strict=True)]
    small = T.resize(planes, size, T.InterpolationMode.NEAREST)
    return replace(target, masks=PackedMasks.from_planes(small, len(target)))
