"""Object queries: the N slots that each ask the image for one object."""

from jaxtyping import Float
from torch import Tensor, nn


class LearnedQueries(nn.Module):
    """Learned positions over content that starts at zero: the published models."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.embedding = nn.Embedding(num_queries, dim)

    def forward(
        self, memory: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "1 Q D"]]:
        """Return the content of each query, zero, and its position."""
        position = self.embedding.weight[None]
        content = memory.new_zeros(1, 1, 1).expand(memory.shape[0], *position.shape[1:])
        return content, position


class LearnedContent(nn.Module):
    """Learned content without position: the 50-line model of the paper."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.embedding = nn.Embedding(num_queries, dim)
        nn.init.uniform_(self.embedding.weight)

    def forward(self, memory: Float[Tensor, "B N D"]) -> tuple[Float[Tensor, "B Q D"], None]:
        """Return the content of each query; no position."""
        return self.embedding.weight.expand(memory.shape[0], -1, -1), None
