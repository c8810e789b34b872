"""The light mask head: masks where pixels and queries agree, held to their boxes."""

import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector
from setmatch.models.layers.dot_product_mask_head import sides_beyond
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


def test_beyond_its_box_a_mask_falls_off_by_the_boxs_own_size():
    """Nothing inside, one a side away, whatever the box's shape."""
    beyond = sides_beyond(torch.tensor([[0.5, 0.5, 0.5, 0.25]]), (8, 8))[0]
    assert (beyond[3:5, 2:6] == 0).all()
    assert beyond[3, 0].item() == pytest.approx((0.5 - 1 / 16) / 0.5 - 0.5)
    assert beyond[0, 3].item() == pytest.approx((0.5 - 1 / 16) / 0.25 - 0.5)
    assert beyond[0, 0] == beyond[0, 3]


@pytest.mark.parametrize("preset", ["setmatch_n_panoptic", "setmatch_s_panoptic"])
def test_asked_for_some_queries_the_head_makes_the_masks_it_makes_of_all(preset: str):
    """At a quarter of the size, in padded batches too; the detector's answers are as without."""
    model = _detector(preset)
    seen = []
    head = type(model.mask_head).forward

    def spying(self, *inputs):
        seen.append(head(self, *inputs))
        return seen[-1]

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.mask_head), "forward", spying)
        masks = model(_images((64, 98), (50, 70)))[0].predictions.masks
        assert masks.shape == (2, 23, 16, 25)
        image, query = torch.tensor([[1, 0, 1], [22, 5, 0]])
        assert torch.allclose(seen[0](image, query), masks[image, query], atol=1e-6)


@pytest.mark.parametrize("count", [0, 2])
def test_masks_are_learned_beside_boxes_classes_and_denoising(count: int):
    """Every parameter has a gradient, with objects and without; masks move no box directly."""
    model = _detector().train()
    targets = [
        Target(
            torch.arange(count),
            torch.rand(count, 4) * 0.4 + 0.1,
            PackedMasks.pack(torch.rand(count, 64, 96) < 0.5),
        )
    ] * 2
    streams = model(_images((64, 96), (64, 96)), targets)
    assert [stream.mask_decoder is not None for stream in streams] == [True, False, False]
    losses = Criterion(model.class_loss, MatchCosts(), LossWeights())(streams, targets)
    mask_loss = losses.groups[0].terms["mask"] + losses.groups[0].terms["dice"]
    last = model.decoder.box_steps[-1].last.weight
    assert torch.autograd.grad(mask_loss, last, retain_graph=True, allow_unused=True) == (None,)
    losses.total.backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
