"""Muon: orthogonal updates, equal to the plain iteration, and steps that can be skipped."""

import pytest
import torch
from torch import nn

from setmatch.training.optim.muon import QUINTIC, Muon, orthogonal


def _plain(matrix: torch.Tensor) -> torch.Tensor:
    a, b, c = QUINTIC
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 8), (8, 30), (30, 8), (1, 5), (64, 300)])
def test_the_gram_iteration_equals_the_plain_iteration(shape: tuple[int, int]):
    """On Gram matrices alone, within float32's error; no singular value ends far above 1."""
    torch.manual_seed(0)
    matrix = torch.randn(3, *shape)
    (ours,) = orthogonal([matrix])
    wide = [m if m.shape[0] <= m.shape[1] else m.mT for m in matrix.double()]
    plain = torch.stack([_plain(m) for m in wide])
    plain = plain if shape[0] <= shape[1] else plain.mT
    assert torch.allclose(ours.double(), plain, atol=2e-3)
    values = torch.linalg.svdvals(ours)
    assert values.max() < 1.3


def test_matrices_of_other_shapes_change_nothing():
    """A stack has the same result alone as beside stacks of equal and of other Gram sizes."""
    torch.manual_seed(0)
    shapes = [(3, 8, 30), (1, 30, 8), (2, 8, 8), (1, 5, 4), (2, 40, 64)]
    stacks = [torch.randn(*shape) for shape in shapes]
    together = orthogonal(stacks)
    assert [tuple(each.shape) for each in together] == shapes
    for stack, each in zip(stacks, together):
        torch.testing.assert_close(each, orthogonal([stack])[0])


def test_matrices_of_any_size_become_orthogonal():
    """Their norm may be as small as gradients get; a matrix of zeros stays zero."""
    torch.manual_seed(0)
    matrix = torch.randn(1, 6, 20)
    for scale in (1e-5, 1.0, 1e6):
        (ours,) = orthogonal([scale * matrix])
        torch.testing.assert_close(ours, orthogonal([matrix])[0], atol=0.02, rtol=0.02)
    (zero,) = orthogonal([torch.zeros(2, 6, 20)])
    assert not zero.any()


def test_a_skipped_step_changes_nothing():
    """Neither weights nor momentum, even when the gradient is not a number."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 4))
    matrices = [p for p in net.parameters() if p.ndim >= 2]
    optimizer = Muon([{"params": matrices}], weight_decay=0.1)
    net(torch.randn(2, 3, 4, 4)).square().sum().backward()
    optimizer.found_inf = torch.tensor(0.0)
    before = [p.clone() for p in matrices]
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, matrices))
    saved = [p.clone() for p in matrices]
    momentum = [optimizer.state[p]["momentum"].clone() for p in matrices]
    for p in matrices:
        p.grad.fill_(float("nan"))
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(saved, matrices))
    assert all(torch.equal(m, optimizer.state[p]["momentum"]) for m, p in zip(momentum, matrices))


def test_the_memory_format_of_weights_changes_nothing():
    """Convolutions in channels_last get bit-equal updates."""
    torch.manual_seed(0)
    plain = [nn.Parameter(torch.randn(8, 4, 3, 3)) for _ in range(2)]
    last = [nn.Parameter(p.detach().clone().to(memory_format=torch.channels_last)) for p in plain]
    gradients = torch.randn(3, 2, 8, 4, 3, 3)
    for weights in (plain, last):
        optimizer = Muon([{"params": weights}], weight_decay=0.1)
        for step in gradients:
            for weight, gradient in zip(weights, step):
                weight.grad = torch.empty_like(weight).copy_(gradient)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(plain, last))


def test_momenta_of_another_memory_format_are_continued():
    """Such as those of an older checkpoint, which were contiguous."""
    torch.manual_seed(0)
    start, gradients = torch.randn(8, 4, 3, 3), torch.randn(3, 8, 4, 3, 3)
    results = []
    for layout in (torch.channels_last, torch.contiguous_format):
        weight = nn.Parameter(start.clone().to(memory_format=torch.channels_last))
        optimizer = Muon([{"params": [weight]}])
        for gradient in gradients:
            weight.grad = torch.empty_like(weight).copy_(gradient)
            optimizer.step()
            state = optimizer.state[weight]
            state["momentum"] = state["momentum"].clone(memory_format=layout)
        results.append(weight)
    assert torch.equal(*results)
    assert not torch.equal(results[0], start)


def test_muon_learns_a_linear_map():
    """The loss of a small regression falls by two orders of magnitude."""
    torch.manual_seed(0)
    target, inputs = torch.randn(6, 10), torch.randn(200, 10)
    net = nn.Linear(10, 6, bias=False)
    optimizer = Muon([{"params": [net.weight]}], lr=0.05)
    losses = []
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 200)
        loss = (net(inputs) - inputs @ target.mT).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100
