"""Object queries: learned embeddings, or the most promising tokens of the encoder."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.cells import cell_centers, cell_grid
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.heads import Activation, BoxRefinementHead, ClassHead
from setmatch.ops.precision import at_least_single


class LearnedQueries(nn.Module):
    """Learned position embeddings; the content starts at zero, as published."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_queries, dim)

    def forward(
        self, memory: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "1 Q D"]]:
        """Return the content of each query, which is zero, and its position embedding."""
        position = self.embedding.weight[None]
        content = memory.new_zeros(1, 1, 1).expand(memory.shape[0], *position.shape[1:])
        return content, position


class ContentQueries(nn.Module):
    """Learned content without position embeddings (the paper's 50-line demo)."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_queries, dim)
        nn.init.uniform_(self.embedding.weight)

    def forward(self, memory: Float[Tensor, "B N D"]) -> tuple[Float[Tensor, "B Q D"], None]:
        """Return the content of each query; there are no position embeddings."""
        return self.embedding.weight.expand(memory.shape[0], -1, -1), None


class AnchorQueries(nn.Module):
    """Learned boxes; the content starts at zero (arXiv 2201.12329).

    With `patterns`, each box makes as many queries, with learned contents that all boxes share.
    """

    def __init__(self, num_boxes: int, dim: int = 0, patterns: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_boxes, 4)  # logits of cx, cy, w, h
        self.patterns = nn.Embedding(patterns, dim) if patterns else None

    def forward(
        self, memory: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "B Q 4"]]:
        """Return the content of each query and its box: all boxes with the first pattern first."""
        images, boxes = memory.shape[0], at_least_single(self.embedding.weight).sigmoid()
        if self.patterns is None:
            return (
                memory.new_zeros(1, 1, 1).expand(images, len(boxes), memory.shape[-1]),
                boxes.expand(images, -1, -1),
            )
        content = self.patterns.weight.repeat_interleave(len(boxes), dim=0)
        every = boxes.repeat(self.patterns.num_embeddings, 1)
        return content.expand(images, -1, -1), every.expand(images, -1, -1)


MASKED_LOGIT = -20.0  # so low that loss and gradient vanish
NOT_A_PEAK = 1e3  # subtracted from logits, ranks them behind all peaks in unchanged order


@dataclass(frozen=True)
class EncoderProposals:
    """The encoder tokens most likely to be objects, best first.

    `logits` and `cxcywh` are trained by the set loss as well; `content` is detached. `real` is
    False for tokens of padding, in images with fewer tokens than queries; None without padding.
    """

    content: Float[Tensor, "B Q D"]
    logits: Float[Tensor, "B Q C"]
    cxcywh: Float[Tensor, "B Q 4"]
    real: Bool[Tensor, "B Q"] | None = None


class TokenSelection(nn.Module):
    """Heads for every token, and the choice of the best: what all query selection has.

    Unless it `prepares` tokens, the heads read them as they are.
    """

    def __init__(
        self,
        num_queries: int,
        dim: int,
        logits: int,
        prepares: bool = True,
        activation: Activation = F.relu,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.prepare = (
            nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim)) if prepares else nn.Identity()
        )
        self.class_head = ClassHead(dim, logits)
        self.box_step = BoxRefinementHead(dim, activation=activation)

    def scored(
        self, tokens: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N C"]]:
        """Return tokens as the heads read them, and their class logits."""
        prepared = self.prepare(tokens)
        return prepared, at_least_single(self.class_head(prepared))

    def chosen(
        self,
        tokens: Float[Tensor, "B Q D"],
        best: Int[Tensor, "B Q 1"],
        every: tuple[Float[Tensor, "B N D"], Float[Tensor, "B N C"]],
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "B Q C"]]:
        """Return the `best` tokens as the heads read them, and their logits, of `every` token's.

        Losses see the chosen tokens alone. Therefore these are scored once more where gradients are
        needed: the backward pass of all tokens takes much longer, and memory for each.
        """
        if torch.is_grad_enabled():
            return self.scored(tokens)
        return chosen_rows(every[0], best), chosen_rows(every[1], best)

    def best(
        self, priority: Float[Tensor, "B N"], memory: Memory
    ) -> tuple[Int[Tensor, "B Q 1"], Bool[Tensor, "B Q"] | None]:
        """Return the best `num_queries` tokens, or all if there are fewer, and which are real."""
        count = min(self.num_queries, priority.shape[1])
        best = priority.topk(count, dim=1).indices
        real = None if memory.valid is None else memory.valid.gather(1, best)
        return best[..., None], real


class QuerySelection(TokenSelection):
    """Query selection: the tokens with the largest class logits (arXiv 2304.08069).

    Neighboring tokens see the same object. Tokens whose logit of some class is the largest in its
    3×3 neighborhood (peaks, as in arXiv 1904.07850, section 4) rank before all others, which keeps
    queries apart.

    Every token has an anchor box with the aspect ratio of the image around its center, twice as
    large from level to level, and predicts a correction to it.
    """

    finest_side = 0.08  # sides of the finest level's anchors, as fractions of the image

    def forward(self, memory: Memory) -> EncoderProposals:
        """Return the best `num_queries` tokens, or all tokens if there are fewer."""
        every = self.scored(memory.tokens.detach())
        visible = every[1].detach()
        if memory.valid is not None:
            visible = visible.masked_fill(~memory.valid[..., None], float("-inf"))
        best, real = self.best(self.priority(visible, memory.shapes), memory)
        content, logits = self.chosen(chosen_rows(memory.tokens, best), best, every)
        boxes = self.box_step(content, chosen_rows(anchor_boxes(memory, self.finest_side), best))
        return EncoderProposals(content.detach(), logits, boxes, real)

    def priority(
        self, logits: Float[Tensor, "B N C"], shapes: tuple[tuple[int, int], ...]
    ) -> Float[Tensor, "B N"]:
        """Return the value that ranks tokens: the largest class logit, peaks first."""
        # Not by torch.where, which takes several times as long.
        return (logits - NOT_A_PEAK * (logits < _largest_around(logits, shapes))).amax(-1)


class AnchorSelection(TokenSelection):
    """Query selection as published (arXiv 2304.08069): the tokens with the largest class logit.

    Tokens whose anchor box is not `inside` the image count as empty, and their box covers it.
    """

    finest_side = 0.05  # sides of the finest level's anchors, as fractions of the image
    margin = 0.01

    def forward(self, memory: Memory) -> EncoderProposals:
        """Return the best `num_queries` tokens, or all tokens if there are fewer."""
        anchors = anchor_boxes(memory, self.finest_side)
        inside = self.inside(anchors)
        every = self.scored(memory.tokens.detach() * inside)
        priority = every[1].detach().amax(-1)
        if memory.valid is not None:
            priority = priority.masked_fill(~memory.valid, float("-inf"))
        best, real = self.best(priority, memory)
        chosen = chosen_rows(memory.tokens, best) * chosen_rows(inside, best)
        content, logits = self.chosen(chosen, best, every)
        boxes = self.box_step(content, chosen_rows(anchors, best))
        boxes = torch.where(chosen_rows(inside, best), boxes, 1.0)
        return EncoderProposals(content.detach(), logits, boxes, real)

    @classmethod
    def inside(cls, anchors: Float[Tensor, "B N 4"]) -> Bool[Tensor, "B N 1"]:
        """Return True for anchors that come nowhere nearer than `margin` to 0 or 1."""
        return ((anchors > cls.margin) & (anchors < 1 - cls.margin)).all(-1, keepdim=True)


def chosen_rows(
    rows: Shaped[Tensor, "#B N C"], index: Int[Tensor, "B Q 1"]
) -> Shaped[Tensor, "B Q C"]:
    """Return the rows that `index` names, of rows that may be the same for all images."""
    # No expansion where there is nothing to expand: an exported graph would copy all rows.
    images = index.shape[0]
    every = rows if rows.shape[0] == images else rows.expand(images, -1, -1)
    return every.gather(1, index.expand(-1, -1, rows.shape[-1]))


def anchor_boxes(memory: Memory, finest_side: float) -> Float[Tensor, "#B N 4"]:
    """Return the anchor box of each token, as fractions of its image.

    It lies around the token's center, and its sides double from level to level.
    """
    levels = []
    for level, shape in enumerate(memory.shapes):
        cells = None if memory.cells is None else memory.cells[level]
        x, y = cell_centers(shape, cells, memory.tokens.device)
        column, row = cell_grid(x, y)
        side = torch.full_like(row, finest_side * 2**level)
        levels.append(torch.stack([column, row, side, side], dim=-1).flatten(1, 2))
    return torch.cat(levels, dim=1)


def only_real(
    logits: Float[Tensor, "L B Q C"], real: Bool[Tensor, "B Q"] | None
) -> Float[Tensor, "L B Q C"]:
    """Return the logits without any confidence or gradient for queries that are not real."""
    return logits if real is None else torch.where(real[..., None], logits, MASKED_LOGIT)


def _largest_around(
    logits: Float[Tensor, "B N C"], shapes: tuple[tuple[int, int], ...]
) -> Float[Tensor, "B N C"]:
    """Return the largest logit of each class among a token and its neighbors on the level."""
    sizes = [height * width for height, width in shapes]
    best = []
    for level, shape in zip(torch.split(logits, sizes, dim=1), shapes, strict=True):
        # Channels last, as in memory: pooling a contiguous copy would take five times as long.
        maps = level.view(level.shape[0], *shape, -1).permute(0, 3, 1, 2)
        around = F.max_pool2d(maps, kernel_size=3, stride=1, padding=1)
        best.append(around.permute(0, 2, 3, 1).flatten(1, 2))
    return torch.cat(best, dim=1)
