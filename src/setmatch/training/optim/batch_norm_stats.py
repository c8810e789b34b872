"""The running statistics of batch norms: those of one process, and of good steps alone."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from setmatch.distributed import Distributed


class BatchNormStats:
    """The running statistics of trainable batch norms, which a bad forward spoils before any loss.

    `keep` remembers them before a step. `settle` brings them back if the step was not finite; else
    it makes them what one process would have that saw the micro-batches of all, in their order.
    There a statistic keeps (1 - momentum)^W of itself from one micro-batch of a process to its
    next, so that is what norms keep here, too; and what the processes' own have moved adds up,
    that of a later one weighing more. All see as many micro-batches, and every norm each once.

    The model's norms have another momentum from then on, so that there is one of these for a model.
    """

    def __init__(self, model: nn.Module, runtime: Distributed) -> None:
        self._runtime = runtime
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        buffers = [(buffer, norm) for norm in norms for buffer in norm.buffers()]
        # Numbers of a kind in one piece: on a GPU, small tensors cost what their launches cost.
        kinds = sorted({buffer.dtype for buffer, _ in buffers}, key=str)
        self._kinds = [[b for b, _ in buffers if b.dtype == kind] for kind in kinds]
        self._kept: list[Tensor] = []
        if runtime.world > 1:
            self._shares = [
                _in_one_piece(
                    [torch.full_like(b, _share(n, runtime)) for b, n in buffers if b.dtype == kind]
                )
                for kind in kinds
            ]
            for norm in norms:
                norm.momentum = 1 - _kept_over_a_round(norm, runtime)

    def keep(self) -> None:
        """Remember the statistics as they are."""
        self._kept = [_in_one_piece(buffers) for buffers in self._kinds]

    def settle(self, finite: Bool[Tensor, ""]) -> None:
        """Share what has moved, or bring back what was kept; the host does not wait to know."""
        moved = [_in_one_piece(buffers) for buffers in self._kinds]
        if self._runtime.world > 1:
            moved = list(map(self._of_all, self._kept, moved, self._shares))
        for buffers, kept, now in zip(self._kinds, self._kept, moved, strict=True):
            resolve_image_size = torch.where(finite, now, kept)
            parts = resolve_image_size.split_with_sizes([buffer.numel() for buffer in buffers])
            shaped = [part.view_as(old) for part, old in zip(parts, buffers, strict=True)]
            torch._foreach_copy_(buffers, shaped)

    def _of_all(self, kept: Tensor, moved: Tensor, shares: Tensor) -> Tensor:
        if moved.is_floating_point():
            return kept + self._runtime.sum(shares * (moved - kept))
        return kept + self._runtime.world * (moved - kept)  # numbers of micro-batches


def _share(norm: nn.modules.batchnorm._BatchNorm, runtime: Distributed) -> float:
    """Return how much of what a process' own statistic moved counts."""
    later = (1 - _momentum(norm)) ** (runtime.world - 1 - runtime.rank)
    return _momentum(norm) * later / (1 - _kept_over_a_round(norm, runtime))


def _kept_over_a_round(norm: nn.modules.batchnorm._BatchNorm, runtime: Distributed) -> float:
    """Return what is left of a statistic after a micro-batch of every process."""
    return (1 - _momentum(norm)) ** runtime.world


def _momentum(norm: nn.modules.batchnorm._BatchNorm) -> float:
    assert norm.momentum is not None, "no norm here averages over all batches it ever saw"
    return norm.momentum


def _in_one_piece(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
