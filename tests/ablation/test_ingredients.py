"""Ablation of the setmatch family: every arm can be built and trained."""

import pytest
import torch

from setmatch.ablation.run import AblationRun
from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.classification import Varifocal
from setmatch.losses.criterion import Criterion
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.registry import build
from setmatch.recipe_text import load_recipe
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard

CATEGORIES = Categories((1, 2), ("one", "two"))
EXCHANGED = (
    *("focal", "no_denoising", "no_box_refinement", "learned_queries"),
    *("no_local_peaks", "no_box_relations", "no_fusion"),
    *("distributions", "fine_grained", "many_in_encoder", "many_beside", "mosaic"),
)


@pytest.mark.thorough
def test_every_arm_is_a_valid_recipe(benchmarks, tmp_path):
    from exchanged import register
    from ingredients import STUDIES

    register()
    ablation = AblationRun(tmp_path, tuple(STUDIES.values()), load_recipe("setmatch_n"), 1)
    arms = [arm for study in ablation.studies for arm in study.arms]
    assert len(ablation.all_jobs()) == len({arm.overrides for arm in arms})
    for study in ablation.studies:
        assert study.reference in [arm.name for arm in study.arms]


@pytest.mark.parametrize("part", EXCHANGED)
def test_a_model_with_an_exchanged_part_can_be_trained(benchmarks, part):
    """Its loss is finite, and every parameter has a gradient."""
    from exchanged import register

    register()
    torch.manual_seed(0)
    model = build(
        ModelCard(f"setmatch_n_{part}", {"num_queries": 8, "denoising_queries": 4}, CATEGORIES)
    )
    batch = Batch.from_images([torch.randn(3, 96, 64) for _ in range(2)])
    targets = [
        Target(torch.tensor([0, 1]), torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.2, 0.3, 0.2, 0.1]])),
        Target(torch.tensor([1]), torch.tensor([[0.6, 0.4, 0.3, 0.5]])),
    ]
    loss = model.objective(lambda class_loss: Criterion(class_loss, MatchCosts(), LossWeights()))
    losses = loss(model.train()(batch, targets), targets, LossNormalizer.of(targets, 8))
    losses.total.backward()
    assert losses.total.isfinite()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert (losses.terms["denoising/l1"] == 0) == (part == "no_denoising")
    assert isinstance(model.class_loss, Varifocal) == (part != "focal")
    (group,) = model.eval()(batch)
    boxes = group.predictions.cxcywh
    assert boxes.shape[2] == 8
    assert torch.isfinite(boxes).all()
