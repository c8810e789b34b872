"""Multi-head attention with fused kernels, residual branches and the feed-forward network."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.ops.precision import at_least_single


class HeadAttention(nn.Module):
    """Scaled dot-product attention of `heads` heads (arXiv 1706.03762, section 3.2).

    A subclass has `heads`, `dropout` and `out`, and says what makes queries, keys and values.
    """

    heads: int
    dropout: float
    out: nn.Module

    def attend(
        self,
        q: Float[Tensor, "B Q E"],
        k: Float[Tensor, "B K E"],
        v: Float[Tensor, "B K D"],
        attn_mask: Bool[Tensor, "#B 1 #Q K"] | Float[Tensor, "B H Q K"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Return the attention output of projected queries, keys and values."""
        if q.device.type == "cpu" and q.dtype == torch.bfloat16:
            # On a CPU the fused backward pass is up to ten times slower in bfloat16 than float32.
            q, k, v = q.float(), k.float(), v.float()
        with torch.autocast(q.device.type, enabled=False):
            output = _attend(
                self._split(q),
                self._split(k),
                self._split(v),
                _match_precision(attn_mask, q),
                self.dropout if self.training else 0.0,
            )
        return self.out(output.transpose(1, 2).flatten(2))

    def attention_weights(
        self,
        q: Float[Tensor, "B Q E"],
        k: Float[Tensor, "B K E"],
        attn_mask: Bool[Tensor, "#B 1 #Q K"] | Float[Tensor, "B H Q K"] | None = None,
    ) -> Float[Tensor, "B H Q K"]:
        """Return the attention weights of each head, which the fused kernel does not give."""
        q, k = self._split(q), self._split(k)
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if attn_mask is None:
            return logits.softmax(-1)
        if attn_mask.is_floating_point():
            return (logits + attn_mask).softmax(-1)
        return logits.masked_fill(~attn_mask, float("-inf")).softmax(-1)

    def _split(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B H N d"]:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class ProjectedAttention(HeadAttention):
    """Attention of queries, keys and values that were projected before.

    Queries and keys may be wider than values: then each head has more of them to compare.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        assert dim % heads == 0, "dim is divided evenly among the heads"
        self.heads, self.dropout = heads, dropout
        self.out = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        query: Float[Tensor, "B Q E"],
        key: Float[Tensor, "B K E"],
        value: Float[Tensor, "B K D"],
        attn_mask: Bool[Tensor, "#B 1 #Q K"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Return the attention output of every query."""
        return self.attend(query, key, value, attn_mask)

    def weights(
        self,
        query: Float[Tensor, "B Q E"],
        key: Float[Tensor, "B K E"],
        attn_mask: Bool[Tensor, "#B 1 #Q K"] | None = None,
    ) -> Float[Tensor, "B H Q K"]:
        """Return the attention weights of each head."""
        return self.attention_weights(query, key, attn_mask)


class Attention(HeadAttention):
    """The same with a projection each for queries, keys and values."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        assert dim % heads == 0, "dim is divided evenly among the heads"
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        for projection in (self.query, self.key, self.value):
            # Published as one (3 D, D) matrix, whose shape sets the range of Xavier initialization.
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
        """Return the attention output of every query.

        A boolean `attn_mask` is True where a query may attend to a key; a float one is added to
        the logits. None, full attention, is the fastest.
        """
        return self.attend(self.query(query), self.key(key), self.value(value), attn_mask)

    def weights(
        self,
        query: Float[Tensor, "B Q D"],
        key: Float[Tensor, "B K D"],
        attn_mask: Bool[Tensor, "#B 1 #Q K"] | Float[Tensor, "B H Q K"] | None = None,
    ) -> Float[Tensor, "B H Q K"]:
        """Return the attention weights of each head, which the fused kernel does not give."""
        return self.attention_weights(self.query(query), self.key(key), attn_mask)


def _attend(
    q: Float[Tensor, "B H Q d"],
    k: Float[Tensor, "B H K d"],
    v: Float[Tensor, "B H K e"],
    attn_mask: Tensor | None,
    dropout: float,
) -> Float[Tensor, "B H Q e"]:
    """Return softmax(q k' / sqrt(d) + mask) v, by the fastest way there is."""
    is_learned = attn_mask is not None and attn_mask.requires_grad
    if not is_learned or dropout or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout)
    # No fused kernel of a CPU gives a gradient to the mask. Torch's plain way spends as much time
    # on rows that see no key; learned masks have none, since every query sees itself.
    assert attn_mask is not None
    mask, batched = attn_mask.flatten(0, 1), [each.flatten(0, 1) for each in (q, k, v)]
    logits = torch.baddbmm(mask, batched[0], batched[1].mT, alpha=1 / math.sqrt(q.shape[-1]))
    return torch.bmm(logits.softmax(-1), batched[2]).view(*q.shape[:-1], -1)


def _match_precision(attn_mask: Tensor | None, query: Tensor) -> Tensor | None:
    """Cast a float mask to the precision of the queries: the fused kernels require it."""
    if attn_mask is None or not attn_mask.is_floating_point():
        return attn_mask
    return attn_mask.to(query.dtype)


class RMSNorm(nn.Module):
    """A norm by the root of the mean square, without centering (arXiv 1910.07467)."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
        """Return the normalized features; the norm is computed in float32 or higher precision."""
        precise = at_least_single(x)
        scale = (precise.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return self.weight * (precise * scale).to(x.dtype)


class PostNorm(nn.Module):
    """A residual branch, then the norm, as published."""

    def __init__(
        self, dim: int, dropout: float, norm: Callable[[int], nn.Module] = nn.LayerNorm
    ) -> None:
        super().__init__()
        self.norm = norm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B N D"], branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Return norm(x + branch(x))."""
        return self.norm(x + self.dropout(branch(x)))

    @staticmethod
    def final_norm(dim: int) -> nn.Module:
        """Return the norm at the end of a stack: none, because its last layer ends with one."""
        return nn.Identity()


class PreNorm(nn.Module):
    """The norm inside the residual branch (arXiv 2002.04745): deep stacks train more easily."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B N D"], branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x + branch(norm(x))."""
        return x + self.dropout(branch(self.norm(x)))

    @staticmethod
    def final_norm(dim: int) -> nn.Module:
        """Return the norm at the end of a stack, whose sum is not normalized."""
        return nn.LayerNorm(dim)


class SkipBranch(nn.Module):
    """A residual without its branch (an ablation of the paper)."""

    def forward(self, x: Float[Tensor, "B N D"], branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x; the branch is skipped."""
        return x


Residual = type[PostNorm] | type[PreNorm]


class FeedForward(nn.Sequential):
    """Two linear layers around an activation, applied to every token."""

    def __init__(
        self, dim: int, hidden: int, dropout: float, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        widen, narrow = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        nn.init.xavier_uniform_(widen.weight)
        nn.init.xavier_uniform_(narrow.weight)
        super().__init__(widen, activation(), nn.Dropout(dropout), narrow)


class SwiGLU(nn.Module):
    """A feed-forward network whose hidden features are gated (arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        for layer in (self.gate, self.up, self.down):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
        """Return down(silu(gate(x)) · up(x))."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


def with_pos_embed(x: Tensor, position: Tensor | None) -> Tensor:
    """Return x plus its position encoding, if there is one."""
    return x if position is None else x + position
