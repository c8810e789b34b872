"""Binary masks, packed eight pixels to a byte."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

# Multiplying eight bytes of 0 or 1 by _SPREAD collects them in the highest byte, the first as its
# highest bit, in the order of numpy.packbits. Multiplying a byte by it moves its bits to the top
# bits of eight bytes. The partial products do not overlap, so nothing carries.
_SPREAD = sum(1 << 9 * place for place in range(7)) - (1 << 63)
_LOWEST = sum(1 << 8 * place for place in range(8))


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """The masks of one image's objects, packed along the width in the order of numpy.packbits."""

    bits: UInt8[Tensor, "M H w8"]
    width_px: int

    def __len__(self) -> int:
        return self.bits.shape[0]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.bits.nbytes

    @classmethod
    def pack(cls, masks: Bool[Tensor, "M H W"]) -> "PackedMasks":
        """Pack masks into an eighth of their memory. Padding bits are zero."""
        return cls((_eights(masks) * _SPREAD >> 56).to(torch.uint8), masks.shape[-1])

    def unpack(self) -> Bool[Tensor, "M H W"]:
        """Return the masks as booleans."""
        count, height, bytes_a_row = self.bits.shape
        eights = (self.bits.long() * _SPREAD >> 7) & _LOWEST
        rows = eights.flatten().view(torch.bool).view(count, height, 8 * bytes_a_row)
        return rows[..., : self.width_px]

    def planes(self) -> UInt8[Tensor, "P H W"]:
        """Return one byte per pixel for every eight objects, the first object as the lowest bit.

        Cropping, flipping or resizing eight masks this way costs no more than one.
        """
        masks = self.unpack().view(torch.uint8)
        planes = masks.new_zeros(-(-len(masks) // 8), *masks.shape[1:])
        for place in range(8):
            eighth = masks[place::8]
            planes[: len(eighth)].add_(eighth, alpha=1 << place)
        return planes

    @classmethod
    def from_planes(cls, planes: UInt8[Tensor, "P H W"], count: int) -> "PackedMasks":
        """Pack the masks of `count` objects from the (cropped, flipped, ...) result of `planes`."""
        eights = _eights(planes)
        packed = [
            ((eights >> place & _LOWEST) * _SPREAD >> 56).to(torch.uint8) for place in range(8)
        ]
        return cls(torch.stack(packed, dim=1).flatten(0, 1)[:count], planes.shape[-1])

    def any(self) -> Bool[Tensor, " M"]:
        """Return which objects have at least one pixel."""
        if not self.bits.numel():
            return self.bits.new_zeros(len(self), dtype=torch.bool)
        return self.bits.flatten(1).amax(dim=1) > 0

    def to_coco(self) -> list[dict[str, Any]]:
        """Return the masks as compressed COCO RLE, ready for JSON."""
        if not len(self):
            return []
        stacked = self.unpack().permute(1, 2, 0).cpu().numpy()
        return [
            {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")}
            for runs in hotcoco.mask.encode(np.asfortranarray(stacked))
        ]

    def __getitem__(self, chosen: Tensor) -> "PackedMasks":
        """Return the masks of chosen objects (indices or booleans), still packed."""
        return PackedMasks(self.bits[chosen], self.width_px)

    def crop(self, corner_px: tuple[int, int], size_px: tuple[int, int]) -> "PackedMasks":
        """Return a part of the masks, by its upper left corner (y, x) and its (height, width)."""
        (top, left), (height, width) = corner_px, size_px
        first = left // 8  # only the bytes of the part are unpacked
        bits = self.bits[:, top : top + height, first : -(-(left + width) // 8)]
        rows = PackedMasks(bits, left + width - 8 * first).unpack()
        return PackedMasks.pack(rows[..., left - 8 * first :])

    def to(self, device: torch.device | str) -> "PackedMasks":
        """Copy the masks to `device`, without waiting for the copy."""
        return PackedMasks(self.bits.to(device, non_blocking=True), self.width_px)

    def pin_memory(self) -> "PackedMasks":
        """Copy the masks to page-locked memory."""
        return PackedMasks(self.bits.pin_memory(), self.width_px)


def pad_to_batch(images: Sequence[PackedMasks]) -> PackedMasks:
    """Concatenate the masks of several images, padded at the bottom and right to one size."""
    height = max(masks.bits.shape[1] for masks in images)
    width8 = max(masks.bits.shape[2] for masks in images)
    padded = [
        F.pad(masks.bits, (0, width8 - masks.bits.shape[2], 0, height - masks.bits.shape[1]))
        for masks in images
    ]
    return PackedMasks(torch.cat(padded), max(masks.width_px for masks in images))


def _eights(rows: Shaped[Tensor, "N H W"]) -> Int64[Tensor, "N H w8"]:
    """Return rows of bytes as int64 of eight bytes each, the last padded with zeros."""
    count, height, width = rows.shape
    # Flat, because view() to another type fails on the strides of an empty array.
    eights = F.pad(rows, (0, -width % 8)).flatten().view(torch.int64)
    return eights.view(count, height, -(-width // 8))
