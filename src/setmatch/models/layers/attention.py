"""Multi-head attention through fused kernels, and the residual around it; weights on request."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Scaled dot-product attention of `heads` heads (arXiv 1706.03762, section 3.2)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        assert dim % heads == 0, "the heads share the width evenly"
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        for projection in (self.query, self.key, self.value):
            # The published model draws all three as one (3 D, D) matrix: Xavier sees that shape.
            nn.init.xavier_uniform_(projection.weight, gain=math.sqrt(0.5))
            nn.init.zeros_(projection.bias)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        query: Float[Tensor, "B Q D"],
        key: Float[Tensor, "B K D"],
        value: Float[Tensor, "B K D"],
        attn_mask: Bool[Tensor, "#B 1 #Q K"] | Float[Tensor, "B H Q K"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Return for every query the mix of values whose keys it asks for.

        `attn_mask` says which query may look at which key, or, of floats, what is added to their
        affinity before the softmax; None, all at all, is the fast path.
        """
        q, k, v = self.query(query), self.key(key), self.value(value)
        if q.device.type == "cpu" and q.dtype == torch.bfloat16:
            # On a CPU the fused backward in bfloat16 takes up to ten times as long as in float32.
            q, k, v = q.float(), k.float(), v.float()
        with torch.autocast(q.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(
                self._split(q),
                self._split(k),
                self._split(v),
                attn_mask=_of_kind(attn_mask, q),
                dropout_p=self.dropout if self.training else 0.0,
            )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(
        self,
        query: Float[Tensor, "B Q D"],
        key: Float[Tensor, "B K D"],
        attn_mask: Bool[Tensor, "#B 1 #Q K"] | Float[Tensor, "B H Q K"] | None = None,
    ) -> Float[Tensor, "B H Q K"]:
        """Return how much each query looks at each key, per head: what forward keeps hidden."""
        q, k = self._split(self.query(query)), self._split(self.key(key))
        affinity = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if attn_mask is None:
            return affinity.softmax(-1)
        if attn_mask.is_floating_point():
            return (affinity + attn_mask).softmax(-1)
        return affinity.masked_fill(~attn_mask, float("-inf")).softmax(-1)

    def _split(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B H N d"]:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _of_kind(attn_mask: Tensor | None, query: Tensor) -> Tensor | None:
    """Return floats in the precision of the queries, as the fused kernels want them."""
    if attn_mask is None or not attn_mask.is_floating_point():
        return attn_mask
    return attn_mask.to(query.dtype)


class PostNorm(nn.Module):
    """Residual, then norm: the published models."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B N D"], branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Return norm(x + branch(x))."""
        return self.norm(x + self.dropout(branch(x)))

    @staticmethod
    def final_norm(dim: int) -> nn.Module:
        """Return what ends a stack: nothing, for its last layer has normed already."""
        return nn.Identity()


class PreNorm(nn.Module):
    """Norm inside the residual (arXiv 2002.04745): trains more easily when deep."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B N D"], branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x + branch(norm(x))."""
        return x + self.dropout(branch(self.norm(x)))

    @staticmethod
    def final_norm(dim: int) -> nn.Module:
        """Return the norm that the stack's unnormed sum needs."""
        return nn.LayerNorm(dim)


class SkipBranch(nn.Module):
    """A residual around nothing: tokens go on as they are (an ablation of the paper)."""

    def forward(self, x: Float[Tensor, "B N D"], branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x; the branch is not asked."""
        return x


Residual = type[PostNorm] | type[PreNorm]


class FeedForward(nn.Sequential):
    """Two linear layers around a ReLU, at every token alike."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        widen, narrow = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        nn.init.xavier_uniform_(widen.weight)
        nn.init.xavier_uniform_(narrow.weight)
        super().__init__(widen, nn.ReLU(), nn.Dropout(dropout), narrow)


def with_pos_embed(x: Tensor, position: Tensor | None) -> Tensor:
    """Return x with its position added, where there is one to add."""
    return x if position is None else x + position
