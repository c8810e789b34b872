"""Prediction heads: from the content of a query to its class logits and its box."""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.ops.precision import at_least_single

PRIOR = 0.01  # class probability of an untrained sigmoid head (arXiv 1708.02002, section 4.1)


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


class ClassHead(nn.Linear):
    """A linear layer for sigmoid class scores; every class starts out improbable."""

    def __init__(self, dim: int, logits: int) -> None:
        super().__init__(dim, logits)
        nn.init.constant_(self.bias, -math.log((1 - PRIOR) / PRIOR))


class BoxRefinementHead(nn.Module):
    """A perceptron that corrects a box in logit space; the correction starts at zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)
        self.last = nn.Linear(dim, 4)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, content: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "#B Q 4"]
    ) -> Float[Tensor, "B Q 4"]:
        """Return the corrected boxes, in float32 or higher precision even under autocast."""
        step = self.last(F.relu(self.second(F.relu(self.first(content)))))
        return (at_least_single(step) + inverse_sigmoid(at_least_single(cxcywh))).sigmoid()


def inverse_sigmoid(x: Float[Tensor, "*n"], margin: float = 1e-3) -> Float[Tensor, "*n"]:
    """Return the logit of x clamped to [margin, 1 - margin], where it is finite."""
    return torch.logit(x, eps=margin)
