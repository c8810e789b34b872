"""Muon: momentum with orthogonalized updates of weight matrices.

Source: Keller Jordan's Muon (https://kellerjordan.github.io/posts/muon), Nesterov momentum, five
Newton-Schulz steps. torch.optim.Muon takes matrices only and one at a time; most of a detector's
weights are convolutions, here viewed as (out, rest) matrices and updated in stacks of one shape.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
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
            by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            self._step_stacks(list(by_shape.values()), group)

    def _step_stacks(self, stacks: list[list[Tensor]], group: dict[str, Any]) -> None:
        """Update stacks of weights, each of one shape.

        Few passes over each stack, in place where possible: memory is slower than arithmetic.
        """
        lr, momentum, decay = group["lr"], group["momentum"], group["lr"] * group["weight_decay"]
        skip = None if self.found_inf is None else self.found_inf.bool()
        if skip is not None:
            assert self.found_inf is not None
            decay = decay * (1 - self.found_inf)
            momentum = torch.where(skip, 1.0, momentum)
        ahead = [self._ahead(weights, momentum, skip) for weights in stacks]
        for weights, change in zip(stacks, orthogonal(ahead, group["steps"]), strict=True):
            if skip is not None:
                change = change.masked_fill_(skip, 0.0)
            rows, columns = change.shape[-2:]
            torch._foreach_mul_(weights, 1 - decay)
            torch._foreach_add_(
                weights, _like(change, weights), alpha=-lr * max(1.0, rows / columns) ** 0.5
            )

    def _ahead(
        self, weights: list[Tensor], momentum: float | Tensor, skip: Tensor | None
    ) -> Float[Tensor, "N r c"]:
        """Update the momenta; return gradient + momentum, the direction of Nesterov's step."""
        stack = torch.stack([_matrix(weight.grad) for weight in weights if weight.grad is not None])
        if skip is not None:
            stack.masked_fill_(skip, -0.0)  # the one number whose sum with any is that one
        gradients, momenta = _like(stack, weights), [self._momentum(w) for w in weights]
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_add_(momenta, gradients)
        torch._foreach_add_(gradients, torch._foreach_mul(momenta, momentum))
        return stack

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        return momentum


def orthogonal(
    stacks: Sequence[Float[Tensor, "_ _ _"]], steps: int = 5
) -> list[Float[Tensor, "_ _ _"]]:
    """Return matrices with the same singular vectors and all singular values near 1.

    The iteration X <- a X + b (X X') X + c (X X')² X multiplies X by a polynomial of its Gram
    matrix, so it runs on the small Gram matrices; X takes part in 2 products, not 15. Gram matrices
    of one size iterate together, whatever the shapes of their matrices.
    """
    is_wide = [stack.shape[-2] <= stack.shape[-1] for stack in stacks]
    grams = [x @ x.mT if wide else x.mT @ x for x, wide in zip(stacks, is_wide, strict=True)]
    by_side: defaultdict[int, list[int]] = defaultdict(list)
    for index, gram in enumerate(grams):
        by_side[gram.shape[-1]].append(index)
    products = list(grams)
    for indices in by_side.values():
        together = _iterate(torch.cat([grams[index] for index in indices]), steps)
        counts = [len(grams[index]) for index in indices]
        for index, product in zip(indices, torch.split(together, counts), strict=True):
            products[index] = product
    return [
        product @ x if wide else x @ product
        for x, product, wide in zip(stacks, products, is_wide, strict=True)
    ]


def _iterate(gram: Float[Tensor, "N r r"], steps: int) -> Float[Tensor, "N r r"]:
    """Return what the iteration multiplies the matrices of these Gram matrices by."""
    # The trace of a Gram matrix is the square of its matrix' norm.
    norm = gram.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()[:, None, None] + 1e-7
    gram = gram / norm.square()
    product = factor = _factor(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor  # symmetric and commuting, as polynomials of one matrix
        factor = _factor(gram)
        product = factor @ product
    return product / norm


def _factor(gram: Float[Tensor, "N r r"]) -> Float[Tensor, "N r r"]:
    """Return a I + b G + c G²."""
    a, b, c = QUINTIC
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _matrix(weight: Tensor) -> Float[Tensor, "r c"]:
    """Return a weight as a matrix, in the order of channels_last: as it lies in memory."""
    return weight.movedim(1, -1).flatten(1)


def _like(stack: Float[Tensor, "N r c"], weights: list[Tensor]) -> list[Tensor]:
    """Return views of the matrices in the shape of their weights."""
    rows, inputs, *kernel = weights[0].shape
    return list(stack.view(len(weights), rows, *kernel, inputs).movedim(-1, 2).unbind())
