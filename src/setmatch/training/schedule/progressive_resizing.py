"""Progressive resizing: images start at half their size and grow during training.

At half the sides a step takes about a quarter of the time.
"""

from dataclasses import replace

from torch.nn import functional as F
from torchvision.transforms.v2 import functional as T

from setmatch.data.batches.loader import Minibatch
from setmatch.structures.batch import Batch, Target
from setmatch.structures.packed_masks import PackedMasks

INITIAL_SCALE = 0.5
CELL_PX = 32  # sides grow by whole cells of the coarsest feature map
MIN_SIDE_PX = 128  # smaller images cost more accuracy than they saved time (LOG.md)


def resolution_scale(progress: float, full_size_at: float) -> float:
    """Return the factor on image sides at `progress`: from 0.5, linearly, to 1 at `full_size_at`.

    Both are fractions of the run, in [0, 1].
    """
    if progress >= full_size_at:
        return 1.0
    return INITIAL_SCALE + (1 - INITIAL_SCALE) * progress / full_size_at


def downscale(minibatch: Minibatch, scale: float) -> Minibatch:
    """Return the minibatch with the sides of its padded batch resized by about `scale`.

    Boxes are normalized and do not change. No side gets shorter than 128 px, or than it was.
    """
    full = minibatch.batch.valid.shape[1:]
    size = [_scaled_px(side, scale) for side in full]
    if scale >= 1 or size == list(full):
        return minibatch
    batch = minibatch.batch
    pixels = F.interpolate(batch.pixels, size=size, mode="bilinear", antialias=True)
    valid = F.interpolate(batch.valid[:, None].float(), size=size)[:, 0] > 0
    factors = [new / old for new, old in zip(size, full, strict=True)]
    return replace(
        minibatch,
        batch=Batch(pixels, valid, batch.padded),
        targets=tuple(_resize_masks(target, factors) for target in minibatch.targets),
    )


def _scaled_px(full_px: int, scale: float) -> int:
    return min(full_px, max(CELL_PX * round(full_px * scale / CELL_PX), MIN_SIDE_PX))


def _resize_masks(target: Target, factors: list[float]) -> Target:
    if target.masks is None:
        return target
    planes = target.masks.planes()
    size = [max(round(old * by), 1) for old, by in zip(planes.shape[1:], factors, strict=True)]
    resized = T.resize(planes, size, T.InterpolationMode.NEAREST)
    return replace(target, masks=PackedMasks.from_planes(resized, len(target)))
