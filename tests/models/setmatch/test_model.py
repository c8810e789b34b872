"""The setmatch detector: boxes, prediction groups, denoising, gradients."""

from dataclasses import replace

import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.layers.heads.heads import BoxRefinementHead
from setmatch.models.layers.queries.denoising import Denoising
from setmatch.models.registry import build
from setmatch.ops.boxes import cxcywh_to_xyxy, intersection_over_union
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard

NAMES = Categories((0, 1, 2), ("a", "b", "c"))
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 7, "denoising_queries": 20}


def _model(preset: str = "setmatch_n"):
    torch.manual_seed(0)
    return build(ModelCard(preset, SMALL, NAMES))


def _perturbed(preset: str):
    """A float64 model without zero weights: many are initialized to zero."""
    model = _model(preset).double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return model


def _targets(*counts: int) -> list[Target]:
    random = torch.Generator().manual_seed(4)
    return [
        Target(
            torch.randint(0, 3, (count,), generator=random),
            torch.rand(count, 4, generator=random) * 0.3 + 0.2,
        )
        for count in counts
    ]


def test_the_initial_box_refinement_is_the_identity():
    boxes = torch.rand(2, 5, 4) * 0.8 + 0.1
    assert torch.allclose(BoxRefinementHead(8)(torch.randn(2, 5, 8), boxes), boxes, atol=1e-5)


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (0, 0), (30, 1)])
def test_positives_are_noised_within_bounds(counts: tuple[int, int]):
    """Centers move by at most half of box_noise; each positive is assigned to its target."""
    torch.manual_seed(1)
    targets = _targets(*counts)
    noised = Denoising(3, 8, queries=24)(targets)
    most = max(*counts, 1)
    assert noised.groups == max(1, 24 // (2 * most))
    assert noised.content.shape[1] == 2 * max(counts) * noised.groups
    assert noised.real.sum(1).tolist() == [2 * noised.groups * count for count in counts]
    expected = torch.cat([target.cxcywh for target in targets])[noised.assignment.target]
    actual = noised.cxcywh[noised.assignment.image, noised.assignment.query]
    assert noised.real[noised.assignment.image, noised.assignment.query].all()
    assert len(expected) == noised.groups * sum(counts)
    limit = 0.4 * expected[:, 2:] + 1e-5
    assert ((actual[:, :2] - expected[:, :2]).abs() <= limit).all()


def test_negatives_overlap_their_target_less_than_half():
    """Corners move by 0.4 to 0.8 sides, so the IoU is at most 0.41.

    The maximum: one axis grows to 1.8 sides, and 0.6 remain on the other, whose ends crossed.
    """
    torch.manual_seed(0)
    target = Target(torch.zeros(1, dtype=torch.int64), torch.tensor([[0.5, 0.5, 0.2, 0.2]]))
    noised = Denoising(3, 8, queries=2000)([target])
    overlap = intersection_over_union(
        cxcywh_to_xyxy(noised.cxcywh[0]), cxcywh_to_xyxy(target.cxcywh)
    )
    positive, negative = overlap.view(-1, 2).unbind(1)  # a group is one of each
    assert negative.max() <= 0.6 / (1 + 1.8 * 0.6 - 0.6)
    assert positive.median() > 0.45


class IdentityDecoder(torch.nn.Module):
    """A decoder that returns the boxes it was given."""

    def forward(self, content, cxcywh, memory, query_mask):
        return content.new_zeros(1, *content.shape[:2], 3), cxcywh[None], content


def test_boxes_are_fractions_of_the_image_without_its_padding():
    """Targets without noise come back unchanged; anchors cover the image and nothing else."""
    model = _model().train()
    model.decoder, model.denoising.box_noise = IdentityDecoder(), 0.0
    images = [torch.randn(3, 64, 96), torch.randn(3, 128, 64)]
    targets = [
        Target(target.classes, target.cxcywh * torch.tensor([1, 1, 0.5, 0.5]))  # inside the image
        for target in _targets(3, 2)
    ]
    main, encoder, denoising = model(Batch.from_images(images), targets)
    pairs = denoising.assignment
    actual = denoising.predictions.cxcywh[0, pairs.image, pairs.query]
    expected = torch.cat([target.cxcywh for target in targets])[pairs.target]
    assert torch.allclose(actual, expected, atol=1e-6)
    for group in (main, encoder):
        centers = group.predictions.cxcywh[..., :2]
        assert (centers < 1).all()
        assert (centers.amax((0, 2)) > 0.5).all()


def test_no_gradient_flows_through_the_input_boxes_of_a_layer():
    model = _perturbed("setmatch_n")
    batch = Batch.from_images([torch.randn(3, 64, 96).double()])
    main, *_ = model(batch, _targets(2))
    main.predictions.cxcywh[-1].sum().backward()
    first, *_, last = model.decoder.box_steps
    assert all(not parameter.grad.any() for parameter in first.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in last.parameters())


@pytest.mark.parametrize("preset", ["setmatch_n", "setmatch_n_panoptic"])
def test_targets_never_leak_into_the_main_predictions(preset: str):
    """The main group is bit-equal for any denoising queries of the same number.

    Another number of them changes matrix sizes, and with them the rounding.
    """
    model = _perturbed(preset)
    batch = Batch.from_images([torch.randn(3, 64, 96).double()] * 2)
    every = torch.arange(2).repeat_interleave(7), torch.arange(7).repeat(2)
    outputs = []
    for targets in (_targets(3, 1), _targets(1, 3)[::-1], _targets(0, 3), _targets(5, 0)):
        torch.manual_seed(7)
        main, encoder, denoising = model(batch, targets)
        assert (main.name, encoder.name, denoising.name) == ("main", "encoder", "denoising")
        masks = (
            None if main.mask_decoder is None else main.mask_decoder(*every).unflatten(0, (2, 7))
        )
        outputs.append(replace(main.predictions, masks=masks))
    first, *others, more = outputs
    assert (first.masks is None) == (preset == "setmatch_n")
    assert (first.cxcywh[0] - first.cxcywh[-1]).abs().amax() > 0.01, "layers refine boxes"
    for other in others:
        assert torch.equal(first.logits, other.logits)
        assert torch.equal(first.cxcywh, other.cxcywh)
        assert first.masks is None or torch.equal(first.masks, other.masks)
    model.eval()
    (alone,) = model(batch)
    for other in (more, alone.predictions):
        assert torch.allclose(first.logits, other.logits, rtol=0, atol=1e-11)
        assert torch.allclose(first.cxcywh, other.cxcywh, rtol=0, atol=1e-12)
        assert first.masks is None or torch.allclose(first.masks, other.masks, rtol=0, atol=1e-10)


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (9, 2)])
def test_every_parameter_has_a_gradient_on_any_batch(counts: tuple[int, int]):
    """No targets, one, more than queries."""
    model = _model().train()
    groups = model(Batch.from_images([torch.randn(3, 64, 96)] * 2), _targets(*counts))
    losses = Criterion(model.class_loss, MatchCosts(), LossWeights())(groups, _targets(*counts))
    losses.total.backward()
    assert torch.isfinite(losses.total)
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
