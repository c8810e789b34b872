"""Muon: momentum with orthogonalized updates of weight matrices.

Source: Keller Jordan's Muon (https://kellerjordan.github.io/posts/muon), Nesterov momentum, five
Newton-Schulz steps. torch.optim.Muon takes matrices only and one at a time; most of a detector's
weights are convolutions, here viewed as (out, rest) matrices and updated in stacks of one shape.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Coefficients of the polynomial that drives singular values toward 1 fastest, to 0.7 to 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more axes; a step with `found_inf` 1 changes nothing."""

    found_inf: Tensor | None = None

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
    ) -> None:
        super().__init__(
            groups,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps},
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # takes no closure
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            stacks: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks[parameter.shape].append(parameter)
            for weights in stacks.values():
                self._step_stack(weights, group)

    def _step_stack(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradient = torch.stack(
            [_matrix(weight.grad) for weight in weights if weight.grad is not None]
        )
        momenta = [self._momentum(weight) for weight in weights]
        old = torch.stack([_matrix(momentum) for momentum in momenta])
        new = group["momentum"] * old + gradient
        direction = orthogonal(gradient + group["momentum"] * new, group["steps"])
        rows, columns = direction.shape[-2:]
        change = group["lr"] * max(1.0, rows / columns) ** 0.5 * direction
        decay: Tensor | float = group["lr"] * group["weight_decay"]
        if self.found_inf is not None:
            skip = self.found_inf.bool()
            new = torch.where(skip, old, new)
            change = change.masked_fill(skip, 0.0)
            decay = decay * (1 - self.found_inf)
        # Few calls: on a GPU, small operations cost a kernel launch each.
        shape = (len(weights), *weights[0].shape)
        torch._foreach_copy_(momenta, new.view(shape).unbind())
        torch._foreach_mul_(weights, 1 - decay)
        torch._foreach_sub_(weights, change.view(shape).unbind())

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:  # contiguous like a matrix, whatever the layout of the weight
            state["momentum"] = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        momentum: Tensor = state["momentum"]
        return momentum


def orthogonal(matrix: Float[Tensor, "N r c"], steps: int = 5) -> Float[Tensor, "N r c"]:
    """Return matrices with the same singular vectors and all singular values near 1.

    The iteration X <- a X + b (X X') X + c (X X')² X multiplies X by a polynomial of its Gram
    matrix, so it runs on the small Gram matrices; X takes part in 2 products, not 15.
    """
    if matrix.shape[-2] > matrix.shape[-1]:
        return orthogonal(matrix.mT, steps).mT
    unit = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = unit @ unit.mT
    product = factor = _factor(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor  # symmetric and commuting, as polynomials of one matrix
        factor = _factor(gram)
        product = factor @ product
    return product @ unit


def _factor(gram: Float[Tensor, "N r r"]) -> Float[Tensor, "N r r"]:
    """Return a I + b G + c G²."""
    a, b, c = QUINTIC
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _matrix(weight: Tensor) -> Float[Tensor, "r c"]:
    return weight.flatten(1)
