"""A mask head that refines pixel embeddings by convolutions, and multiplies them with queries."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.detr_mask_head import with_current_autocast
from setmatch.ops.precision import at_least_single
from setmatch.structures.outputs import MaskDecoder

STRIDE = 4  # pixels of an image per cell of a mask


class DepthwiseBlock(nn.Module):
    """A depthwise convolution, a norm and a linear layer around a shortcut (arXiv 2201.03545)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pointwise = nn.Linear(dim, dim)

    def forward(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """Return x + gelu(pointwise(norm(depthwise(x))))."""
        inner = self.norm(self.depthwise(features).permute(0, 2, 3, 1))
        return features + F.gelu(self.pointwise(inner)).permute(0, 3, 1, 2)


class PixelMaskHead(nn.Module):
    """Dot products of pixel and query embeddings (arXiv 2107.06278), as in RF-DETR.

    Pixels are the memory, resized to stride 4 and refined by `blocks` blocks; queries pass through
    a feed-forward network with `ffn_dim` hidden features.
    """

    def __init__(self, dim: int, ffn_dim: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DepthwiseBlock(dim) for _ in range(blocks))
        self.pixel = nn.Conv2d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, ffn_dim)
        self.narrow = nn.Linear(ffn_dim, dim)
        self.query = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(
        self, content: Float[Tensor, "B Q D"], memory: Memory, size_px: tuple[int, int]
    ) -> MaskDecoder:
        """Return the decoder of mask logits for a batch of `size_px` (height, width)."""
        (shape,) = memory.shapes
        level = torch.unflatten(memory.tokens.transpose(1, 2), 2, shape)
        height, width = ((side + STRIDE - 1) // STRIDE for side in size_px)
        pixels = F.interpolate(level, (height, width), mode="bilinear")
        for block in self.blocks:
            pixels = block(pixels)
        refined = content + self.narrow(F.gelu(self.widen(self.norm(content))))
        products = torch.einsum("bqd,bdhw->bqhw", self.query(refined), self.pixel(pixels))
        count = content.shape[1]

        def mask_decoder(
            image: Int[Tensor, " M"], query: Int[Tensor, " M"]
        ) -> Float[Tensor, "M h w"]:
            chosen = products.flatten(0, 1).index_select(0, image * count + query)
            return at_least_single(chosen) + self.bias

        return with_current_autocast(mask_decoder, pixels.device.type)
