"""Repeated random numbers have their distribution and depend on the seed; all rows differ."""

import torch

from quick_weights import BLOCK, all_different


def test_large_layers_repeat_a_block_of_random_numbers():
    torch.manual_seed(0)
    weights = torch.empty(2048, 256).uniform_(-2, 2)
    assert torch.equal(weights.flatten()[:BLOCK], weights.flatten()[BLOCK : 2 * BLOCK])
    assert len(torch.unique(weights, dim=0)) == 2048
    assert abs(float(weights.mean())) < 0.02
    assert -2 <= float(weights.min()) < -1.99
    torch.manual_seed(0)
    assert torch.equal(torch.empty(2048, 256).uniform_(-2, 2), weights)


def test_small_ones_and_all_on_request_have_different_numbers():
    assert len(torch.empty(BLOCK).normal_(3.0, 0.1).unique()) > BLOCK / 10
    with all_different():
        weights = torch.empty(3 * BLOCK).normal_()
    assert not torch.equal(weights[:BLOCK], weights[BLOCK : 2 * BLOCK])
