"""Batch norm statistics: the same as in one process, and unchanged by steps that are skipped."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from setmatch.distributed import Distributed


class BatchNormStats:
    """The running statistics of trainable batch norms.

    A forward pass that is not finite corrupts them before there is any loss. `snapshot` copies them
    before a step. `commit` restores the copy if the step was not finite; otherwise it sets them to
    what one process would have after the micro-batches of all W processes, in their order. There a
    statistic retains (1 - momentum)^W of itself from one micro-batch of a process to its next;
    norms here retain as much, and the changes of the processes add up, with a larger weight for a
    later one. All processes have the same number of micro-batches, and every norm sees each once.

    The constructor changes the momentum of the model's norms: use one object per model.
    """

    def __init__(self, model: nn.Module, distributed: Distributed) -> None:
        self._distributed = distributed
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        buffers = [(buffer, norm) for norm in norms for buffer in norm.buffers()]
        # One flat tensor per dtype: on a GPU, many small tensors cost a kernel launch each.
        dtypes = sorted({buffer.dtype for buffer, _ in buffers}, key=str)
        self._buffers = [[b for b, _ in buffers if b.dtype == dtype] for dtype in dtypes]
        self._saved: list[Tensor] = []
        if distributed.world > 1:
            self._weights = [
                _flatten(
                    [
                        torch.full_like(buffer, _change_weight(norm, distributed))
                        for buffer, norm in buffers
                        if buffer.dtype == dtype
                    ]
                )
                for dtype in dtypes
            ]
            for norm in norms:
                norm.momentum = 1 - _retained_per_round(norm, distributed)

    def snapshot(self) -> None:
        """Save a copy of the statistics."""
        self._saved = [_flatten(buffers) for buffers in self._buffers]

    def commit(self, finite: Bool[Tensor, ""]) -> None:
        """Combine the changes of all processes, or restore the copy; the host does not wait."""
        current = [_flatten(buffers) for buffers in self._buffers]
        if self._distributed.world > 1:
            current = list(map(self._combine, self._saved, current, self._weights))
        for buffers, saved, new in zip(self._buffers, self._saved, current, strict=True):
            committed = torch.where(finite, new, saved)
            parts = committed.split_with_sizes([buffer.numel() for buffer in buffers])
            shaped = [part.view_as(old) for part, old in zip(parts, buffers, strict=True)]
            torch._foreach_copy_(buffers, shaped)

    def _combine(self, saved: Tensor, current: Tensor, weights: Tensor) -> Tensor:
        if current.is_floating_point():
            return saved + self._distributed.sum(weights * (current - saved))
        return saved + self._distributed.world * (current - saved)  # numbers of micro-batches


def _change_weight(norm: nn.modules.batchnorm._BatchNorm, distributed: Distributed) -> float:
    """Return the weight of this process' change of a statistic in the combined change."""
    later = (1 - _momentum(norm)) ** (distributed.world - 1 - distributed.rank)
    return _momentum(norm) * later / (1 - _retained_per_round(norm, distributed))


def _retained_per_round(norm: nn.modules.batchnorm._BatchNorm, distributed: Distributed) -> float:
    """Return the fraction of a statistic that is left after one micro-batch of every process."""
    return (1 - _momentum(norm)) ** distributed.world


def _momentum(norm: nn.modules.batchnorm._BatchNorm) -> float:
    assert norm.momentum is not None, "norms have a momentum, and do not average over all batches"
    return norm.momentum


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
