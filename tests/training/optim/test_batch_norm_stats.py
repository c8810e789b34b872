"""Batch norm statistics of several processes equal those of one with every micro-batch."""

import copy

import pytest
import torch
from torch import nn

from setmatch.distributed import Distributed
from setmatch.training.optim.batch_norm_stats import BatchNormStats


class SingleRank(Distributed):
    """A rank without the others: its sums have only its own share."""

    def sum(self, tensor):
        return tensor


def make_model(momentum):
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3, momentum=momentum), nn.Linear(3, 2), nn.BatchNorm1d(2))
    for norm in (model[0], model[2]):
        norm.running_mean.normal_()
    return model.double()


def stats_after_step(model, micro_batches, distributed, finite=True):
    """Return the statistics after a step on the micro-batches of one process."""
    model = copy.deepcopy(model)
    norms = BatchNormStats(model, distributed)
    norms.snapshot()
    for pixels in micro_batches:
        model(pixels)
    norms.commit(torch.tensor(finite))
    return dict(model.named_buffers())


@pytest.mark.parametrize("world", [1, 2, 3])
def test_statistics_of_several_processes_equal_those_of_one(world: int):
    """For any momentum, the micro-batches of all processes count as a sequence."""
    model = make_model(0.03)
    before = dict(model.named_buffers())
    window = [torch.randn(5, 3).double() * (1 + k) for k in range(2 * world)]
    whole = copy.deepcopy(model)
    for pixels in window:
        whole(pixels)
    total = {name: value.clone() for name, value in before.items()}
    for rank in range(world):
        shard = window[rank::world]
        stats = stats_after_step(model, shard, SingleRank(torch.device("cpu"), rank, world))
        for name, value in stats.items():
            if "batches" in name:
                total[name] = value  # the same in every process
            else:
                total[name] += value - before[name]
    for name, value in whole.named_buffers():
        assert torch.allclose(total[name], value, rtol=1e-12, atol=1e-12), name


def test_a_frozen_norm_does_not_change():
    """Bit for bit, for any number of processes."""
    model = make_model(0.1).eval()
    stats = stats_after_step(
        model, [torch.randn(5, 3).double()] * 2, SingleRank(torch.device("cpu"), 1, 3)
    )
    for name, value in model.named_buffers():
        assert torch.equal(stats[name], value), name


def test_a_skipped_step_changes_no_statistic():
    """Also if the statistics of every process are NaN."""
    model = make_model(0.1)
    nonfinite = torch.full((5, 3), torch.nan).double()
    stats = stats_after_step(
        model, [nonfinite], SingleRank(torch.device("cpu"), 0, 2), finite=False
    )
    for name, value in model.named_buffers():
        assert torch.equal(stats[name], value), name
