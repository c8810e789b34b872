"""Cells of images in padded feature maps, and norms over them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from setmatch.models.layers.cells import (
    Cells,
    cell_centers,
    cells_of,
    group_normalize,
    hide,
    normalize,
)
from setmatch.structures.batch import Batch

SIDE = st.integers(1, 70)


def _batch(*sizes: tuple[int, int]) -> Batch:
    return Batch.from_images([torch.zeros(3, *size) for size in sizes])


def _halved(features: torch.Tensor, times: int) -> torch.Tensor:
    for _ in range(times):
        features = F.max_pool2d(features, 3, stride=2, padding=1)
    return features


@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 5))
def test_an_image_has_as_many_cells_as_alone(
    height: int, width: int, other_height: int, other_width: int, halvings: int
):
    """At any stride, for any sizes; also when counted layer by layer."""
    sizes = (height, width), (other_height, other_width)
    batch = _batch(*sizes)
    cells = cells_of(batch, _halved(batch.pixels, halvings))
    if not batch.padded:
        assert cells is None
        return
    layer_by_layer = Cells(batch.valid)
    for _ in range(halvings):
        layer_by_layer = layer_by_layer.every(2)
    assert torch.equal(cells.valid, layer_by_layer.valid)
    for valid, valid_wh, size in zip(cells.valid, cells.valid_wh.tolist(), sizes):
        rows, columns = _halved(torch.zeros(1, 1, *size), halvings).shape[-2:]
        assert valid_wh == [columns, rows]
        assert valid[:rows, :columns].all()
        assert valid.sum() == rows * columns


def test_a_map_of_another_stride_has_the_cells_that_overlap_an_image():
    """10 pixels on 4 cells are no power of two."""
    cells = cells_of(_batch((10, 10), (4, 6)), torch.zeros(2, 1, 4, 4))
    assert cells.valid_wh.tolist() == [[4, 4], [3, 2]]
    assert cells.ratio().tolist() == [[1, 1], [0.75, 0.5]]


def test_centers_are_fractions_of_each_image():
    cells = Cells(_batch((2, 4), (4, 2)).valid)
    x, y = cell_centers((4, 4), cells, torch.device("cpu"))
    assert x[:, :2].tolist() == [[0.125, 0.375], [0.25, 0.75]]
    assert y[:, :2].tolist() == [[0.25, 0.75], [0.125, 0.375]]
    alone, _ = cell_centers((4, 2), None, torch.device("cpu"))
    assert torch.equal(alone[0], x[1, :2])


def test_nothing_is_done_without_padding():
    features = torch.randn(2, 4, 3, 5)
    norm = nn.BatchNorm2d(4).eval()
    assert hide(features, None) is features
    assert torch.equal(normalize(norm, features, None), norm(features))


SIZES = ((5, 9), (7, 3), (1, 1))


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_norm_sees_the_images_alone(training: bool):
    """Outputs, gradients and running statistics equal those of the images' cells in one row."""
    torch.manual_seed(0)
    norm, peer = nn.BatchNorm2d(4).double(), nn.BatchNorm1d(4).double()
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    norm.running_mean.uniform_()
    peer.load_state_dict(norm.state_dict())
    cells = Cells(_batch(*SIZES).valid)
    features = torch.randn(3, 4, 7, 9).double().requires_grad_()
    pull = torch.randn(3, 4, 7, 9).double()
    output = normalize(norm.train(training), features, cells)
    on_images = features.permute(0, 2, 3, 1)[cells.valid]
    expected = peer.train(training)(on_images)
    assert torch.allclose(output.permute(0, 2, 3, 1)[cells.valid], expected, atol=1e-12)
    assert not output.permute(0, 2, 3, 1)[~cells.valid].any()
    variables = (features, norm.weight, norm.bias), (features, peer.weight, peer.bias)
    ours = torch.autograd.grad((output * pull).sum(), variables[0])
    pulled = (expected * pull.permute(0, 2, 3, 1)[cells.valid]).sum()
    for mine, theirs in zip(ours, torch.autograd.grad(pulled, variables[1])):
        assert torch.allclose(mine, theirs, atol=1e-12)
    for mine, theirs in zip(norm.buffers(), peer.buffers()):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_a_group_norm_sees_each_image_alone():
    torch.manual_seed(0)
    norm = nn.GroupNorm(2, 4).double()
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    features = torch.randn(3, 4, 7, 9).double()
    output = group_normalize(norm, features, Cells(_batch(*SIZES).valid))
    for ours, image, (height, width) in zip(output, features, SIZES):
        expected = norm(image[None, :, :height, :width])[0]
        assert torch.allclose(ours[:, :height, :width], expected, atol=1e-12)
        assert not ours[:, height:].any()
        assert not ours[..., width:].any()
