"""Any number of targets in an image: none, one, more than queries, thousands."""

import pytest
import torch

from setmatch.losses.criterion import Criterion
from setmatch.models.layers.queries.denoising import MAX_TARGETS, Denoising
from setmatch.models.registry import build
from setmatch.recipe_text import load_recipe
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.packed_masks import PackedMasks
from thorough import usually

NAMES = Categories((1, 2, 3), ("a", "b", "c"))
QUERIES = 7
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": QUERIES}


def targets(count: int, masks: bool = False) -> Target:
    random = torch.Generator().manual_seed(count)
    return Target(
        torch.randint(0, 3, (count,), generator=random),
        torch.rand(count, 4, generator=random) * 0.2 + torch.tensor([0.4, 0.4, 0.1, 0.1]),
        PackedMasks.pack(torch.ones(count, 64, 64, dtype=torch.bool)) if masks else None,
    )


@pytest.mark.promise(13)
@pytest.mark.parametrize("preset", ["detr_r18_tiny", "setmatch_n", "setmatch_n_panoptic"])
@pytest.mark.parametrize("count", usually([0, 1, QUERIES, QUERIES + 1, 2000], 0, QUERIES + 1, 2000))
def test_any_number_of_targets_gives_finite_loss_and_gradients(preset: str, count: int):
    """rf-detr #1297: next to an image with one target."""
    torch.manual_seed(0)
    recipe = load_recipe("setmatch_n" if preset.startswith("setmatch") else None)
    model = build(ModelCard(preset, SMALL, NAMES)).train()
    criterion = model.objective(
        lambda class_loss: Criterion(class_loss, recipe.matching, recipe.loss)
    )
    masks = preset.endswith("panoptic")
    targets_of_batch = [targets(count, masks), targets(1, masks)]
    batch = Batch.from_images([torch.randn(3, 64, 64), torch.randn(3, 64, 64)])
    groups = model(batch, targets_of_batch)
    total = criterion(groups, targets_of_batch).total
    total.backward()
    assert total.isfinite()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad.isfinite().all() for parameter in trained)
    queries = sum(group.predictions.logits.shape[2] for group in groups)
    assert queries <= 2 * QUERIES + 2 * MAX_TARGETS


@pytest.mark.promise(13)
@pytest.mark.parametrize("count", [MAX_TARGETS, MAX_TARGETS + 1, 2000])
def test_denoising_uses_a_random_subset_of_very_many_targets(count: int):
    """Memory grows with the square of the queries. Subsets differ; assignments stay right."""
    denoising = Denoising(3, 8, label_noise=0.0, box_noise=0.0)
    targets_of_batch = [targets(2), targets(count), targets(1)]
    torch.manual_seed(0)
    first, second = (denoising(targets_of_batch) for _ in range(2))
    assert first.content.shape[1] == 2 * MAX_TARGETS
    image, query, target = first.assignment.image, first.assignment.query, first.assignment.target
    assert image.bincount().tolist() == [2, MAX_TARGETS, 1]
    assert target[image == 0].tolist() == [0, 1]
    assert target[image == 2].tolist() == [2 + count]
    chosen = target[image == 1]
    assert len(chosen.unique()) == MAX_TARGETS
    assert ((chosen >= 2) & (chosen < 2 + count)).all()
    everything = torch.cat([each.cxcywh for each in targets_of_batch])
    assert torch.allclose(first.cxcywh[image, query], everything[target], atol=1e-5)
    assert torch.equal(chosen, second.assignment.target[image == 1]) == (count == MAX_TARGETS)
