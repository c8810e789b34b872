"""Which pixels belong to an object: eight to the byte, so that a batch of masks fits in memory."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional as F

_BITS = (128, 64, 32, 16, 8, 4, 2, 1)  # as numpy.packbits orders them


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
        count, height, width = masks.shape
        eights = F.pad(masks, (0, -width % 8)).view(count, height, -(-width // 8), 8)
        places = torch.tensor(_BITS, dtype=torch.uint8, device=masks.device)
        return cls((eights * places).sum(-1, dtype=torch.uint8), width)

    def unpack(self) -> Bool[Tensor, "M H W"]:
        """Return a bool for every pixel."""
        places = torch.tensor(_BITS, dtype=torch.uint8, device=self.bits.device)
        return ((self.bits[..., None] & places) != 0).flatten(-2)[..., : self.width_px]

    def __getitem__(self, chosen: Tensor) -> "PackedMasks":
        """Return only the chosen objects' masks (indices or bools), still packed."""
        return PackedMasks(self.bits[chosen], self.width_px)

    def to(self, device: torch.device | str) -> "PackedMasks":
        """Return the same masks on `device`, without waiting for the copy."""
        return PackedMasks(self.bits.to(device, non_blocking=True), self.width_px)

    def pin_memory(self) -> "PackedMasks":
        """Return the same masks in page-locked memory."""
        return PackedMasks(self.bits.pin_memory(), self.width_px)
