"""The running statistics of batch norms: those of one process, and of good steps alone."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from setmatch.train.runtime import Runtime


class NormStatistics:
    """The running statistics of trainable batch norms, which a bad forward spoils before any loss.

    `keep` remembers them before a step. `settle` brings them back if the step was not finite; else
    it makes them what one process would have that saw the micro-batches of all, in their order.
    There a statistic keeps (1 - momentum)^W of itself from one micro-batch of a process to its
    next, so that is what norms keep here, too; and what the processes' own have moved adds up,
    that of a later one weighing more.
    """

    def __init__(self, model: nn.Module, runtime: Runtime) -> None:
        self._runtime = runtime
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        buffers = [
            (buffer, _share(buffer, norm, runtime)) for norm in norms for buffer in norm.buffers()
        ]
        # Numbers of a kind in one piece: on a GPU, small tensors cost what their launches cost.
        kinds = sorted({buffer.dtype for buffer, _ in buffers}, key=str)
        self._kinds = [[b for b, _ in buffers if b.dtype == kind] for kind in kinds]
        self._shares = [
            _in_one_piece([torch.full_like(b, share) for b, share in buffers if b.dtype == kind])
            for kind in kinds
        ]
        self._kept: list[Tensor] = []
        if runtime.world > 1:
            for norm in norms:
                norm.momentum = 1 - _kept_over_a_round(norm, runtime)

    def keep(self) -> None:
        """Remember the statistics as they are."""
        self._kept = [_in_one_piece(buffers) for buffers in self._kinds]

    def settle(self, finite: Bool[Tensor, ""]) -> None:
        """Share what has moved, or bring back what was kept; the host does not wait to know."""
        for buffers, shares, kept in zip(self._kinds, self._shares, self._kept, strict=True):
            moved = _in_one_piece(buffers)
            if self._runtime.world > 1:
                moved = kept + self._runtime.sum(shares * (moved - kept))
            settled = torch.where(finite, moved, kept)
            parts = settled.split_with_sizes([buffer.numel() for buffer in buffers])
            shaped = [part.view_as(old) for part, old in zip(parts, buffers, strict=True)]
            torch._foreach_copy_(buffers, shaped)


def _share(buffer: Tensor, norm: nn.modules.batchnorm._BatchNorm, runtime: Runtime) -> float:
    """Return how much of what a process moved in a buffer counts; of batches every one does."""
    if not buffer.is_floating_point():
        return 1.0
    momentum = _momentum(norm)
    later = (1 - momentum) ** (runtime.world - 1 - runtime.rank)
    return momentum * later / (1 - _kept_over_a_round(norm, runtime))


def _kept_over_a_round(norm: nn.modules.batchnorm._BatchNorm, runtime: Runtime) -> float:
    """Return what is left of a statistic after a micro-batch of every process."""
    return (1 - _momentum(norm)) ** runtime.world


def _momentum(norm: nn.modules.batchnorm._BatchNorm) -> float:
    assert norm.momentum is not None, "no norm here averages over all batches it ever saw"
    return norm.momentum


def _in_one_piece(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
