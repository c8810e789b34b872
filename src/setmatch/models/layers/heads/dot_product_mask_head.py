"""A light mask head: masks are dot products of pixel and query embeddings."""

import math
from collections import OrderedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.layers.cells import Cells, cell_centers, cell_grid, hide
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.detr_mask_head import with_current_autocast
from setmatch.ops.precision import at_least_single
from setmatch.structures.outputs import MaskDecoder

STEEPNESS = 8.0  # logits that an untrained mask loses per box side outside its box


class DotProductMaskHead(nn.Module):
    """Dot products of pixel and query embeddings (arXiv 2107.06278, section 3.1), bound to boxes.

    Pixels are embedded at stride 4, from the backbone's finest level and the memory's. Objects of
    the same appearance are told apart by their boxes: mask logits fall off outside the box, in
    proportion to the distance in box sides.
    """

    def __init__(self, dim: int, finest_channels: int) -> None:
        super().__init__()
        width = dim // 2
        self.fine = ConvNorm(finest_channels, width, kernel=1)
        self.coarse = ConvNorm(dim, width, kernel=1)
        self.mix = ConvNorm(width, width)
        self.pixel = nn.Sequential(OrderedDict(last=nn.Conv2d(width, width, 1)))
        self.query = nn.Sequential(
            OrderedDict(first=nn.Linear(dim, dim), relu=nn.ReLU(), last=nn.Linear(dim, width))
        )
        self.steepness = nn.Parameter(torch.tensor(STEEPNESS))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        finest: Float[Tensor, "B C h w"],
        cells: Cells | None = None,
    ) -> MaskDecoder:
        """Return the decoder of mask logits at the size of the finest level, of these cells.

        Boxes get no gradient from the masks.
        """
        height, width = memory.shapes[0]
        tokens = memory.tokens[:, : height * width].transpose(1, 2)
        coarser_cells = None if memory.cells is None else memory.cells[0]
        coarse = self.coarse(tokens.reshape(*tokens.shape[:2], height, width), coarser_cells)
        size = (finest.shape[-2], finest.shape[-1])
        both = self.fine(finest, cells) + upsample(coarse, coarser_cells, size, cells)
        pixels = self.pixel(F.relu(self.mix(F.relu(both), cells)))
        queries = self.query(content)
        products = torch.einsum("bqe,behw->bqhw", queries / math.sqrt(queries.shape[-1]), pixels)
        boxes, count = at_least_single(cxcywh.detach()), content.shape[1]
        x, y = cell_centers(size, cells, finest.device)
        images = content.shape[0]
        x, y = x.expand(images, -1), y.expand(images, -1)

        def mask_decoder(
            image: Int[Tensor, " M"], query: Int[Tensor, " M"]
        ) -> Float[Tensor, "M h w"]:
            chosen = products.flatten(0, 1).index_select(0, image * count + query)
            distance = sides_outside(boxes[image, query], x[image], y[image])
            return at_least_single(chosen) + self.bias - self.steepness * distance

        return with_current_autocast(mask_decoder, finest.device.type)


def sides_outside(
    cxcywh: Float[Tensor, "M 4"], x: Float[Tensor, "#M w"], y: Float[Tensor, "#M h"]
) -> Float[Tensor, "M h w"]:
    """Return the distance of each cell center (x, y) from each box, in box sides; 0 inside."""
    center_x, center_y, width, height = cxcywh[..., None].unbind(1)
    across = ((x - center_x).abs() / width.clamp(min=1e-3) - 0.5).clamp(min=0)
    down = ((y - center_y).abs() / height.clamp(min=1e-3) - 0.5).clamp(min=0)
    return torch.maximum(across[:, None, :], down[:, :, None])


def upsample(
    coarse: Float[Tensor, "B C _ _"],
    coarser_cells: Cells | None,
    size: tuple[int, int],
    cells: Cells | None,
) -> Float[Tensor, "B C h w"]:
    """Resize features bilinearly to `size`, those of each image from its cells to its cells."""
    if coarser_cells is None or cells is None:
        return F.interpolate(coarse, size=size, mode="bilinear")
    centers = cell_centers(size, cells, coarse.device)
    axes = []
    for axis, (center, side) in enumerate(zip(centers, coarse.shape[:1:-1], strict=True)):
        cell = 1 / coarser_cells.valid_wh[:, axis, None]
        inside = torch.minimum(center.clamp(min=cell / 2), 1 - cell / 2)
        axes.append(2 * inside / (cell * side) - 1)
    coarse = at_least_single(coarse)
    grid = torch.stack(cell_grid(axes[0], axes[1]), dim=-1).to(coarse.dtype)
    return hide(F.grid_sample(coarse, grid, align_corners=False), cells)
