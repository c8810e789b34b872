"""Prediction heads: from the content of a query to its class logits and its box."""

import itertools
import math
from collections.abc import Callable
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.ops.precision import at_least_single

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu}
PRIOR = 0.01  # class probability of an untrained sigmoid head (arXiv 1708.02002, section 4.1)


class Perceptron(nn.Module):
    """Linear layers of the given widths, with an activation between them."""

    def __init__(self, *widths: int, activation: Activation = F.relu) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, content: Float[Tensor, "*n D"]) -> Float[Tensor, "*n E"]:
        """Return the output of the last layer."""
        *hidden, last = self.layers
        for layer in hidden:
            content = self.activation(layer(content))
        return last(content)

    def starting_at_zero(self) -> Self:
        """Return the perceptron, with its last layer set to zero."""
        last = self.get_submodule(f"layers.{len(self.layers) - 1}")
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        return self


class BoxHead(Perceptron):
    """A multi-layer perceptron whose sigmoid is (cx, cy, w, h) as fractions of the image."""

    def forward(self, content: Float[Tensor, "*n D"]) -> Float[Tensor, "*n 4"]:
        """Return one box for every query of every layer."""
        return super().forward(content).sigmoid()


class ClassHead(nn.Linear):
    """A linear layer for sigmoid class scores; every class starts out improbable."""

    def __init__(self, dim: int, logits: int) -> None:
        super().__init__(dim, logits)
        nn.init.constant_(self.bias, -math.log((1 - PRIOR) / PRIOR))


class BoxRefinementHead(nn.Module):
    """A perceptron that corrects a box in logit space; the correction starts at zero.

    Coordinates nearer than `margin` to 0 or 1 count as if they were at that distance.
    """

    def __init__(self, dim: int, margin: float = 1e-3, activation: Activation = F.relu) -> None:
        super().__init__()
        self.margin = margin
        self.activation = activation
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)
        self.last = nn.Linear(dim, 4)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, content: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "#B Q 4"]
    ) -> Float[Tensor, "B Q 4"]:
        """Return the corrected boxes, in float32 or higher precision even under autocast."""
        hidden = self.activation(self.second(self.activation(self.first(content))))
        step = self.last(hidden)
        logit = inverse_sigmoid(at_least_single(cxcywh), self.margin)
        return (at_least_single(step) + logit).sigmoid()


class BoxScalingHead(nn.Module):
    """A perceptron that moves and scales a box; boxes start unchanged."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.step = Perceptron(dim, dim, dim, 4).starting_at_zero()

    def forward(
        self, content: Float[Tensor, "*n D"], cxcywh: Float[Tensor, "*#n 4"]
    ) -> Float[Tensor, "*n 4"]:
        """Return the changed boxes, in float32 or higher precision even under autocast."""
        return move_and_scale(at_least_single(cxcywh), at_least_single(self.step(content)))


def move_and_scale(
    cxcywh: Float[Tensor, "*#n 4"], step: Float[Tensor, "*#n 4"]
) -> Float[Tensor, "*n 4"]:
    """Return boxes moved by fractions of their sides, and scaled by exponentials.

    Source: arXiv 1311.2524, appendix C.
    """
    sides = cxcywh[..., 2:]
    return torch.cat([cxcywh[..., :2] + step[..., :2] * sides, step[..., 2:].exp() * sides], dim=-1)


def inverse_sigmoid(x: Float[Tensor, "*n"], margin: float = 1e-3) -> Float[Tensor, "*n"]:
    """Return the logit of x clamped to [margin, 1 - margin], where it is finite."""
    return torch.logit(x, eps=margin)
