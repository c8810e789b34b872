"""Which pixels belong to an object: eight to the byte, so that a batch of masks fits in memory."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional as F

# Times eight bytes of 0 or 1, it brings them together in the highest byte, the first as its highest
# bit, as numpy.packbits orders them; times a byte, it brings its bits to the tops of eight bytes.
# No two products meet, so nothing is carried.
_SPREAD = sum(1 << 9 * place for place in range(7)) - (1 << 63)
_LOWEST = sum(1 << 8 * place for place in range(8))


@dataclass(frozen=True)
class PackedMasks:
    """The masks of one image's objects, packed along the width as numpy.packbits packs them."""

    bits: UInt8[Tensor, "M H w8"]
    width_px: int

    def __len__(self) -> int:
        return self.bits.shape[0]

    @classmethod
    def pack(cls, masks: Bool[Tensor, "M H W"]) -> "PackedMasks":
        """Keep the masks in an eighth of their memory; padding bits are zero."""
        width = masks.shape[-1]
        eights = F.pad(masks, (0, -width % 8)).view(torch.int64)
        return cls((eights * _SPREAD >> 56).to(torch.uint8), width)

    def unpack(self) -> Bool[Tensor, "M H W"]:
        """Return a bool for every pixel."""
        count, height, bytes_a_row = self.bits.shape
        eights = (self.bits.long() * _SPREAD >> 7) & _LOWEST
        rows = eights.flatten().view(torch.bool).view(count, height, 8 * bytes_a_row)
        return rows[..., : self.width_px]

    def __getitem__(self, chosen: Tensor) -> "PackedMasks":
        """Return only the chosen objects' masks (indices or bools), still packed."""
        return PackedMasks(self.bits[chosen], self.width_px)

    def to(self, device: torch.device | str) -> "PackedMasks":
        """Return the same masks on `device`, without waiting for the copy."""
        return PackedMasks(self.bits.to(device, non_blocking=True), self.width_px)

    def pin_memory(self) -> "PackedMasks":
        """Return the same masks in page-locked memory."""
        return PackedMasks(self.bits.pin_memory(), self.width_px)
