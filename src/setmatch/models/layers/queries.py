"""Object queries: the N slots that each ask the image for one object."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.heads import BoxRefinementHead, ClassHead
from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.ops.precision import at_least_single


class LearnedQueries(nn.Module):
    """Learned positions over content that starts at zero: the published models."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_queries, dim)

    def forward(
        self, memory: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "1 Q D"]]:
        """Return the content of each query, zero, and its position."""
        position = self.embedding.weight[None]
        content = memory.new_zeros(1, 1, 1).expand(memory.shape[0], *position.shape[1:])
        return content, position


class ContentQueries(nn.Module):
    """Learned content without position: the 50-line model of the paper."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_queries, dim)
        nn.init.uniform_(self.embedding.weight)

    def forward(self, memory: Float[Tensor, "B N D"]) -> tuple[Float[Tensor, "B Q D"], None]:
        """Return the content of each query; no position."""
        return self.embedding.weight.expand(memory.shape[0], -1, -1), None


LATER = 1e3  # taken from a logit, puts it behind all others, in their order


@dataclass(frozen=True)
class EncoderProposals:
    """The places of the image that look most like an object, best first.

    `logits` and `cxcywh` (fractions of the canvas) are trained as answers of their own; `content`
    carries no gradient.
    """

    content: Float[Tensor, "B Q D"]
    logits: Float[Tensor, "B Q C"]
    cxcywh: Float[Tensor, "B Q 4"]


class QuerySelection(nn.Module):
    """Queries chosen by the image: the tokens with the largest class logit (arXiv 2304.08069).

    Neighbors see the same object: what is the largest of its 3×3 cells in some class comes before
    all else (peaks, as in arXiv 1904.07850, section 4), so that queries begin apart.

    Every token of a level begins with a box of the canvas' shape around its center, twice as large
    from each level to the next coarser one, and moves it. A batch that is padded has a larger
    canvas than each of its images, and larger boxes.
    """

    smallest = 0.08  # sides of a box of the finest level, as fractions of the canvas

    def __init__(self, num_queries: int, dim: int, logits: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.prepare = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.class_head = ClassHead(dim, logits)
        self.box_step = BoxRefinementHead(dim)

    def forward(self, memory: Memory) -> EncoderProposals:
        """Return the best tokens; as many as there are where that is fewer than the queries."""
        tokens = self.prepare(memory.tokens)
        logits = at_least_single(self.class_head(tokens))
        shown = logits.detach()
        if memory.valid is not None:
            shown = shown.masked_fill(~memory.valid[..., None], float("-inf"))
        priority = self.priority(shown, memory.shapes)
        count = min(self.num_queries, priority.shape[1])
        best = priority.topk(count, dim=1).indices[..., None]
        content = tokens.gather(1, best.expand(-1, -1, tokens.shape[-1]))
        start = self.anchors(memory).expand(best.shape[0], -1, -1).gather(1, best.expand(-1, -1, 4))
        return EncoderProposals(
            content.detach(),
            logits.gather(1, best.expand(-1, -1, logits.shape[-1])),
            self.box_step(content, start),
        )

    def priority(
        self, logits: Float[Tensor, "B N C"], shapes: tuple[tuple[int, int], ...]
    ) -> Float[Tensor, "B N"]:
        """Return what the best tokens are the largest of: the largest logit, peaks before all."""
        return torch.where(_peaks(logits, shapes), logits, logits - LATER).amax(-1)

    def anchors(self, memory: Memory) -> Float[Tensor, "1 N 4"]:
        """Return the box that each token begins with, in fractions of the canvas."""
        levels = []
        for level, (height, width) in enumerate(memory.shapes):
            y = (torch.arange(height, device=memory.tokens.device) + 0.5) / height
            x = (torch.arange(width, device=memory.tokens.device) + 0.5) / width
            row, column = torch.meshgrid(y, x, indexing="ij")
            side = torch.full_like(row, self.smallest * 2**level)
            levels.append(torch.stack([column, row, side, side], dim=-1).flatten(0, 1))
        return torch.cat(levels)[None]


def _peaks(
    logits: Float[Tensor, "B N C"], shapes: tuple[tuple[int, int], ...]
) -> Bool[Tensor, "B N C"]:
    """Say for each class which tokens no neighbor of their own level surpasses in it."""
    sizes = [height * width for height, width in shapes]
    best = []
    for level, shape in zip(torch.split(logits, sizes, dim=1), shapes, strict=True):
        # Channels last, as they lie: pooling copies of them would take five times as long.
        maps = level.view(level.shape[0], *shape, -1).permute(0, 3, 1, 2)
        around = F.max_pool2d(maps, kernel_size=3, stride=1, padding=1)
        best.append(around.permute(0, 2, 3, 1).flatten(1, 2))
    return logits >= torch.cat(best, dim=1)
