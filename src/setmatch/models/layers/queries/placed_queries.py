"""Queries with a content, a position encoding and a place that they look around."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.models.layers.attention.position_encoding import SineProposalPosition
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.queries.queries import (
    AnchorSelection,
    TokenSelection,
    anchor_boxes,
    chosen_rows,
)
from setmatch.ops.precision import at_least_single


@dataclass(frozen=True, eq=False)
class TokenProposals:
    """Whether every token is an object of any class, and its box. `real` is False for padding."""

    logits: Float[Tensor, "B N 1"]
    cxcywh: Float[Tensor, "B N 4"]
    real: Bool[Tensor, "B N"] | None


@dataclass(frozen=True, eq=False)
class PlacedQueries:
    """What a decoder starts from. A place without sides is a box of half the image's sides.

    `tokens` are all tokens of the encoder, of which the queries are the best; None for learned
    queries. `real` is False for tokens of padding, in images with fewer tokens than queries.
    """

    content: Float[Tensor, "B Q D"]
    position: Float[Tensor, "B Q D"]
    cxcywh: Float[Tensor, "B Q 4"]
    tokens: TokenProposals | None = None
    real: Bool[Tensor, "B Q"] | None = None

    logits = None  # of classes: a place has none


def around(points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 4"]:
    """Return boxes of half the image's sides around points: the logit of a half is 0.

    A head that corrects boxes in logit space predicts the sides of such a box as they are.
    """
    return torch.cat([points, torch.full_like(points, 0.5)], dim=-1)


class LearnedPlaces(nn.Module):
    """Learned content and position; the place is a linear function of the position."""

    fixed = True  # the same for every image

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.embedding = nn.Embedding(num_queries, 2 * dim)
        self.place = nn.Linear(dim, 2)
        nn.init.xavier_uniform_(self.place.weight)
        nn.init.zeros_(self.place.bias)

    def forward(self, memory: Memory) -> PlacedQueries:
        """Return the same queries for every image."""
        every = self.embedding.weight.expand(memory.tokens.shape[0], -1, -1)
        position, content = every.chunk(2, dim=-1)
        points = at_least_single(self.place(position)).sigmoid()
        return PlacedQueries(content, position, around(points))


class TokenPlaces(TokenSelection):
    """Queries at the boxes of the tokens that look most like objects (arXiv 2010.04159, A.4).

    Content and position are functions of the box. Tokens whose anchor box is not inside the image
    count as empty, and their box covers it.
    """

    fixed = False
    finest_side = AnchorSelection.finest_side

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__(num_queries, dim, logits=1)
        self.waves = SineProposalPosition(dim // 2)
        self.expand = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.LayerNorm(2 * dim))
        for parameter in (*self.prepare.parameters(), *self.expand.parameters()):
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)

    def forward(self, memory: Memory) -> PlacedQueries:
        """Return the best `num_queries` tokens, or all tokens if there are fewer."""
        anchors = anchor_boxes(memory, self.finest_side)
        usable = AnchorSelection.inside(anchors)
        if memory.valid is not None:
            usable = usable & memory.valid[..., None]
        tokens = self.prepare(memory.tokens * usable)
        logits = at_least_single(self.class_head(tokens))
        cxcywh = torch.where(usable, self.box_step(tokens, anchors), 1.0)
        priority = logits.detach()[..., 0]
        if memory.valid is not None:
            priority = priority.masked_fill(~memory.valid, float("-inf"))
        best, real = self.best(priority, memory)
        places = chosen_rows(cxcywh, best).detach()
        position, content = self.expand(self.waves(places).to(tokens.dtype)).chunk(2, dim=-1)
        proposals = TokenProposals(logits, cxcywh, memory.valid)
        return PlacedQueries(content, position, places, proposals, real)
