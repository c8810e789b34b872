"""The published mask head on the fast-converging family, as benchmarks/family_heads.py has it."""

import argparse
from pathlib import Path

import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.losses.criterion import Criterion
from setmatch.models.registry import MODELS
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.batch import Batch, Target
from setmatch.structures.packed_masks import PackedMasks

SHAPE = MultiScaleShape(dim=32, heads=4, ffn_dim=48, num_queries=7, denoising_queries=4)


@pytest.fixture(params=["attention_preset", "attention_apart"])
def model(monkeypatch, request) -> SetMatchDetector:
    """Return the family's smallest with the published head, of few queries."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import family_heads

    torch.manual_seed(0)
    return getattr(family_heads, request.param)(3, SHAPE)


def test_it_makes_a_mask_for_every_query_of_a_padded_batch(model):
    """At a quarter of the size, odd levels included; what lies in the padding is not looked at."""
    pictures = [torch.randn(3, 64, 98), torch.randn(3, 50, 70)]
    looks = []
    model.mask_head.head.attention.register_forward_hook(lambda *call: looks.append(call[-1]))
    with torch.no_grad():
        masks = model.eval()(Batch.from_images(pictures))[0].predictions.masks
    assert masks.shape == (2, 7, 16, 25)
    assert masks.isfinite().all()
    per_cell = looks[0].sum((1, 2)).view(2, 2, 4)  # both images cover two rows of stride 32
    assert (per_cell[0] > 0).all()
    assert (per_cell[1, :, :3] > 0).all()
    assert (per_cell[1, :, 3] == 0).all()


def test_it_learns_beside_boxes_and_its_last_convolution_without_muon(model):
    """Every parameter has a gradient, as with the light head."""
    masks = torch.zeros(2, 64, 96, dtype=torch.bool)
    masks[0, 10:40, 20:60] = masks[1, 40:60, 5:30] = True
    boxes = torch.tensor([[0.42, 0.39, 0.42, 0.47], [0.18, 0.78, 0.26, 0.31]])
    targets = [Target(torch.tensor([0, 2]), boxes, PackedMasks.pack(masks))]
    streams = model.train()(Batch.from_images([torch.randn(3, 64, 96)]), targets)
    weights = LossWeights(mask=10, dice=2)
    loss = Criterion(model.class_loss, MatchCosts(), weights)(streams, targets).total
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    last = model.mask_head.head.out.last.weight
    assert all(parameter is not last for parameter in model.parameter_groups()["matrices"])


def test_the_published_head_is_trained_and_measured(monkeypatch, tmp_path: Path):
    """From random weights: the recipe's own are of a model that has another head."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import family_heads

    monkeypatch.setitem(MODELS, family_heads.PUBLISHED, family_heads.attention_preset)
    write_scenes(tmp_path / "data", 16, 1, 64, 0, workers=0, panoptic=True)
    options = argparse.Namespace(out=tmp_path, minutes=0.02, seed=0)
    assert family_heads.trained(family_heads.PUBLISHED, options)["steps"] >= 1
