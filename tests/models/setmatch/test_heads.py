"""The published mask head on setmatch models, as in benchmarks/family_heads.py."""

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
    """Return a small setmatch_n with the published mask head."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import family_heads

    torch.manual_seed(0)
    return getattr(family_heads, request.param)(3, SHAPE)


def test_it_predicts_a_mask_for_every_query_of_a_padded_batch(model):
    """At a quarter of the size; padding gets no attention."""
    images = [torch.randn(3, 64, 98), torch.randn(3, 50, 70)]
    maps = []
    model.mask_head.head.attention.register_forward_hook(lambda *call: maps.append(call[-1]))
    with torch.no_grad():
        masks = model.eval()(Batch.from_images(images))[0].predictions.masks
    assert masks.shape == (2, 7, 16, 25)
    assert masks.isfinite().all()
    per_cell = maps[0].sum((1, 2)).view(2, 2, 4)  # both images cover two rows of stride 32
    assert (per_cell[0] > 0).all()
    assert (per_cell[1, :, :3] > 0).all()
    assert (per_cell[1, :, 3] == 0).all()


def test_it_trains_with_boxes_and_muon_skips_its_last_convolution(model):
    masks = torch.zeros(2, 64, 96, dtype=torch.bool)
    masks[0, 10:40, 20:60] = masks[1, 40:60, 5:30] = True
    boxes = torch.tensor([[0.42, 0.39, 0.42, 0.47], [0.18, 0.78, 0.26, 0.31]])
    targets = [Target(torch.tensor([0, 2]), boxes, PackedMasks.pack(masks))]
    groups = model.train()(Batch.from_images([torch.randn(3, 64, 96)]), targets)
    weights = LossWeights(mask=10, dice=2)
    loss = Criterion(model.class_loss, MatchCosts(), weights)(groups, targets).total
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    last = model.mask_head.head.out.last.weight
    assert all(parameter is not last for parameter in model.parameter_groups()["matrices"])


@pytest.mark.thorough
def test_the_benchmark_trains_it(monkeypatch, tmp_path: Path):
    """From random weights: the recipe's initial weights have another head."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import family_heads

    monkeypatch.setitem(MODELS, family_heads.PUBLISHED, family_heads.attention_preset)
    write_scenes(tmp_path / "data", 16, 1, 64, 0, workers=0, panoptic=True)
    options = argparse.Namespace(out=tmp_path, minutes=0.02, seed=0)
    assert family_heads.trained(family_heads.PUBLISHED, options)["steps"] >= 1
