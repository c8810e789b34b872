"""The published mask head: masks of chosen queries, without upsampled copies."""

import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector
from setmatch.models.layers.heads.detr_mask_head import CHUNK
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
    "num_queries": CHUNK + 3,
    "dropout": 0.0,
}


def _detector(preset: str = "detr_r18_tiny_panoptic") -> Detector:
    torch.manual_seed(0)
    return build(ModelCard(preset, SMALL, PETS)).eval()


def _images(*sizes: tuple[int, int]) -> Batch:
    random = torch.Generator().manual_seed(1)
    return Batch.from_images([torch.randn(3, *size, generator=random) for size in sizes])


@pytest.mark.parametrize("preset", ["detr_r18_tiny_panoptic", "detr_r50_dc5_panoptic"])
def test_masks_of_chosen_queries_equal_those_of_all(preset: str):
    """All masks in evaluation mode; in training the decoder computes any of them."""
    model = _detector(preset)
    for module in model.modules():  # training mode is to change the masks only
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    batch = _images((64, 97), (50, 70))
    with torch.no_grad():
        (group,) = model(batch)
        masks = group.predictions.masks
        assert masks is not None
        assert masks.shape == (2, CHUNK + 3, 16, 25)
        model.training = True
        (group,) = model(batch)
        assert group.predictions.masks is None
        image, query = torch.tensor([[1, 0, 1], [CHUNK + 2, 5, 0]])
        assert torch.allclose(group.mask_decoder(image, query), masks[image, query], atol=1e-5)


def test_the_mask_head_does_not_change_boxes_and_classes():
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
def test_every_parameter_has_a_gradient_without_any_target(precision: torch.dtype):
    """Gradients of the head are zeros, not missing, in any precision."""
    model = _detector().train()
    nothing = [Target(torch.empty(0, dtype=torch.long), torch.empty(0, 4))] * 2
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        groups = model(_images((64, 96), (64, 96)), nothing)
    Criterion(model.class_loss, MatchCosts(), LossWeights())(groups, nothing).total.backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert all(p.grad.count_nonzero() == 0 for p in model.mask_head.parameters())


def test_masks_are_computed_under_the_autocast_of_the_model():
    """The criterion calls the decoder after autocast has ended."""
    model = _detector().train()
    with torch.autocast("cpu", torch.bfloat16):
        (group,) = model(_images((64, 96)))
    masks = group.mask_decoder(torch.tensor([0]), torch.tensor([2]))
    assert masks.dtype == torch.float32
    assert masks.isfinite().all()
