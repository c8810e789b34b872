"""The light mask head: dot products that fall off outside the box."""

import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector
from setmatch.models.layers.heads.dot_product_mask_head import sides_outside
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.packed_masks import PackedMasks

PETS = Categories((3, 7, 20), ("cat", "dog", "parrot"))


def _detector(preset: str = "setmatch_n_panoptic") -> Detector:
    torch.manual_seed(0)
    shape = {"dim": 32, "heads": 4, "ffn_dim": 48, "num_queries": 23, "denoising_queries": 8}
    return build(ModelCard(preset, shape, PETS)).eval()


def _images(*sizes: tuple[int, int]) -> Batch:
    random = torch.Generator().manual_seed(1)
    return Batch.from_images([torch.randn(3, *size, generator=random) for size in sizes])


def test_distance_from_a_box_is_in_box_sides():
    """0 inside, for any aspect ratio."""
    centers = (torch.arange(8)[None] + 0.5) / 8
    distance = sides_outside(torch.tensor([[0.5, 0.5, 0.5, 0.25]]), centers, centers)[0]
    assert (distance[3:5, 2:6] == 0).all()
    assert distance[3, 0].item() == pytest.approx((0.5 - 1 / 16) / 0.5 - 0.5)
    assert distance[0, 3].item() == pytest.approx((0.5 - 1 / 16) / 0.25 - 0.5)
    assert distance[0, 0] == distance[0, 3]


@pytest.mark.parametrize("preset", ["setmatch_n_panoptic", "setmatch_s_panoptic"])
def test_masks_of_chosen_queries_equal_those_of_all(preset: str):
    """At a quarter of the size, in padded batches too."""
    model = _detector(preset)
    decoders = []
    head = type(model.mask_head).forward

    def recording(self, *inputs):
        decoders.append(head(self, *inputs))
        return decoders[-1]

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.mask_head), "forward", recording)
        masks = model(_images((64, 98), (50, 70)))[0].predictions.masks
        assert masks.shape == (2, 23, 16, 25)
        image, query = torch.tensor([[1, 0, 1], [22, 5, 0]])
        assert torch.allclose(decoders[0](image, query), masks[image, query], atol=1e-6)


@pytest.mark.parametrize("count", [0, 2])
def test_masks_are_trained_with_boxes_classes_and_denoising(count: int):
    """Every parameter has a gradient; mask losses do not move boxes."""
    model = _detector().train()
    targets = [
        Target(
            torch.arange(count),
            torch.rand(count, 4) * 0.4 + 0.1,
            PackedMasks.pack(torch.rand(count, 64, 96) < 0.5),
        )
    ] * 2
    groups = model(_images((64, 96), (64, 96)), targets)
    assert [group.mask_decoder is not None for group in groups] == [True, False, False]
    losses = Criterion(model.class_loss, MatchCosts(), LossWeights())(groups, targets)
    mask_loss = losses.groups[0].terms["mask"] + losses.groups[0].terms["dice"]
    last = model.decoder.box_steps[-1].last.weight
    assert torch.autograd.grad(mask_loss, last, retain_graph=True, allow_unused=True) == (None,)
    losses.total.backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
