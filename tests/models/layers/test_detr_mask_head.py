"""The mask head makes the published masks, of the queries that are asked for, without copies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector
from setmatch.models.layers.detr_mask_head import AT_ONCE, upsample_conv
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard

PETS = Categories((3, 7, 20), ("cat", "dog", "parrot"))
SMALL = {
    "dim": 32,
    "heads": 4,
    "ffn_dim": 48,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": AT_ONCE + 3,
    "dropout": 0.0,
}


def _detector(preset: str = "detr_r18_tiny_panoptic") -> Detector:
    torch.manual_seed(0)
    return build(ModelCard(preset, SMALL, PETS)).eval()


def _images(*sizes: tuple[int, int]) -> Batch:
    random = torch.Generator().manual_seed(1)
    return Batch.from_images([torch.randn(3, *size, generator=random) for size in sizes])


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 2**31))
def test_growing_is_part_of_the_convolution(height: int, width: int, same: bool, seed: int):
    """Values and gradients are those of a convolved nearest-neighbor copy, odd sizes too."""
    random = torch.Generator().manual_seed(seed)
    size = (-(-height // 2), -(-width // 2)) if not same else (height, width)
    x, weight = (
        torch.randn(*shape, generator=random, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, *size), (4, 3, 3, 3))
    )
    way = torch.randn(2, 4, height, width, generator=random, dtype=torch.float64)
    plain = F.conv2d(F.interpolate(x, size=(height, width)), weight, padding=1)
    ours = upsample_conv(x, weight, (height, width))
    assert torch.allclose(ours, plain, atol=1e-12)
    expected = torch.autograd.grad((plain * way).sum(), (x, weight))
    for found, wanted in zip(torch.autograd.grad((ours * way).sum(), (x, weight)), expected):
        assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("preset", ["detr_r18_tiny_panoptic", "detr_r50_dc5_panoptic"])
def test_asked_for_some_queries_the_head_makes_the_masks_it_makes_of_all(preset: str):
    """In eval mode there is a mask for every query, at a quarter of the size; in training only
    those asked for, in any order, and equal.
    """
    model = _detector(preset)
    for module in model.modules():  # so that training mode changes nothing but what is made
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    batch = _images((64, 97), (50, 70))
    with torch.no_grad():
        (stream,) = model(batch)
        masks = stream.predictions.masks
        assert masks is not None
        assert masks.shape == (2, AT_ONCE + 3, 16, 25)
        model.training = True
        (stream,) = model(batch)
        assert stream.predictions.masks is None
        image, query = torch.tensor([[1, 0, 1], [AT_ONCE + 2, 5, 0]])
        assert torch.allclose(stream.mask_decoder(image, query), masks[image, query], atol=1e-5)


def test_without_a_mask_head_there_are_no_masks():
    """The detector's other answers are the same with the head and without it."""
    with_head, without = _detector(), _detector("detr_r18_tiny")
    without.load_state_dict(
        {k: v for k, v in with_head.state_dict().items() if not k.startswith("mask_head.")}
    )
    with torch.no_grad():
        (ours,), (theirs,) = with_head(_images((64, 96))), without(_images((64, 96)))
    assert theirs.predictions.masks is None
    assert theirs.mask_decoder is None
    assert torch.equal(ours.predictions.logits, theirs.predictions.logits)
    assert torch.equal(ours.predictions.cxcywh, theirs.predictions.cxcywh)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_parameter_has_a_gradient_where_no_mask_is_wanted(precision: torch.dtype):
    """Images without objects: gradients of the head are zeros, not missing, in any precision."""
    model = _detector().train()
    nothing = [Target(torch.empty(0, dtype=torch.long), torch.empty(0, 4))] * 2
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        streams = model(_images((64, 96), (64, 96)), nothing)
    Criterion(model.class_loss, MatchCosts(), LossWeights())(streams, nothing).total.backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert all(p.grad.count_nonzero() == 0 for p in model.mask_head.parameters())


def test_masks_are_made_in_the_precision_of_the_model_after_autocast_has_ended():
    """The criterion asks outside of the autocast under which the features were made."""
    model = _detector().train()
    with torch.autocast("cpu", torch.bfloat16):
        (stream,) = model(_images((64, 96)))
    masks = stream.mask_decoder(torch.tensor([0]), torch.tensor([2]))
    assert masks.dtype == torch.float32
    assert masks.isfinite().all()
