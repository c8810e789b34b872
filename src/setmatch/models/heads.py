"""Heads: from the content of a query to a box; the class head is one linear layer."""

import itertools

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class BoxHead(nn.Module):
    """A multi-layer perceptron whose sigmoid is (cx, cy, w, h) as fractions of the image."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, content: Float[Tensor, "*n D"]) -> Float[Tensor, "*n 4"]:
        """Return one box for every query of every layer."""
        *hidden, last = self.layers
        for layer in hidden:
            content = F.relu(layer(content))
        return last(content).sigmoid()
