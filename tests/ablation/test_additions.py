"""Additions tested by the ablations: box distributions, one-to-many matching, mosaic."""

import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.classification import Varifocal
from setmatch.losses.criterion import Criterion
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.presets import setmatch_n
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.batch import Batch, Target
from setmatch.structures.outputs import Assignment, PredictionGroup, Predictions

SMALL = MultiScaleShape(dim=32, heads=4, ffn_dim=32, num_queries=5, decoder_layers=2)


def _boxes(count: int) -> torch.Tensor:
    return torch.cat([torch.rand(count, 2) * 0.4 + 0.3, torch.rand(count, 2) * 0.2 + 0.2], dim=1)


def test_offsets_are_denser_near_zero(benchmarks):
    """33 offsets, symmetric, up to the size of the box."""
    from distribution import offsets

    found = offsets()
    steps = found.diff()
    assert len(found) == 33
    assert torch.equal(found, -found.flip(0))
    assert found[[0, 1, 16, 31, 32]].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert (steps[16:].diff() > 0).all()


def test_decoding_inverts_the_target_distributions(benchmarks):
    """A uniform distribution moves no side."""
    from distribution import move_sides, target_distributions

    torch.manual_seed(0)
    start, target = _boxes(200), _boxes(200)
    share = target_distributions(start, target)
    assert torch.allclose(share.sum(-1), torch.ones(200, 4))
    assert ((share > 0).sum(-1) <= 2).all()
    reachable = (cxcywh_to_xyxy(start) - cxcywh_to_xyxy(target)).abs() < start[:, 2:].repeat(1, 2)
    assert reachable.all(1).sum() > 100
    found = move_sides(start, share.clamp(min=1e-30).log())
    assert torch.allclose(found[reachable.all(1)], target[reachable.all(1)], atol=1e-5)
    assert torch.allclose(move_sides(start, torch.zeros(200, 4, 33)), start, atol=1e-6)
    far = target_distributions(
        torch.tensor([[0.1, 0.1, 0.1, 0.1]]), torch.tensor([[0.9, 0.9, 0.1, 0.1]])
    )
    assert far[0].argmax(-1).tolist() == [0, 0, 32, 32]


def test_the_distribution_loss_is_minimal_at_its_targets(benchmarks):
    """Its weight is the IoU of the boxes."""
    from distribution import _cross_entropy, target_distributions

    torch.manual_seed(0)
    start, boxes = _boxes(2)[None], _boxes(2)
    number = torch.arange(2)
    pairs = Assignment(torch.zeros(2, dtype=torch.int64), number, number.flip(0))
    sides = (
        target_distributions(start[0], boxes[pairs.target])
        .clamp(min=1e-30)
        .log()[None]
        .requires_grad_()
    )
    _cross_entropy(pairs, sides, start, boxes[pairs.target][None], boxes).backward()
    assert sides.grad.abs().max() < 1e-6
    elsewhere = torch.zeros_like(sides).requires_grad_()
    _cross_entropy(pairs, elsewhere, start, boxes[pairs.target][None], boxes).backward()
    assert elsewhere.grad.abs().max() > 0.1
    nowhere = torch.full((1, 2, 4), 9.0)
    assert _cross_entropy(pairs, elsewhere, start, nowhere, boxes) == 0


def test_every_copy_of_a_target_is_matched_to_a_query_of_its_own(benchmarks):
    """It has the class and box of the original, in every layer."""
    from one_to_many import repeated

    torch.manual_seed(0)
    counts = (3, 0, 1)
    targets = [Target(torch.randint(0, 4, (count,)), _boxes(count)) for count in counts]
    stream = PredictionGroup("main", Predictions(torch.randn(2, 3, 20, 4), torch.rand(2, 3, 20, 4)))
    criterion = Criterion(Varifocal(), MatchCosts(), LossWeights())
    layers = repeated(stream, targets, criterion, 4)
    assert len(layers) == 2
    for number, layer in enumerate(layers):
        assert torch.equal(layer.predictions.logits[0], stream.predictions.logits[number])
        assert layer.repeats == 4
        pairs = layer.assignment
        assert pairs.target.bincount().tolist() == [4, 4, 4, 4]
        assert torch.equal(pairs.image, torch.tensor([0, 0, 0, 2])[pairs.target])
        places = torch.stack([pairs.image, pairs.query], dim=1)
        assert len(places.unique(dim=0)) == 16
    assert criterion(layers, targets).total.isfinite()


def test_extra_queries_do_not_change_the_others(benchmarks):
    """The others are bit-equal, and the extra ones are absent in evaluation."""
    from one_to_many import many_beside

    torch.manual_seed(0)
    model = many_beside(setmatch_n(3, SMALL), SMALL)
    batch = Batch.from_images([torch.randn(3, 64, 96)])
    assert model.eval()(batch)[0].predictions.logits.shape[2] == 5
    main, encoder, _ = model.train()(batch, [Target(torch.tensor([1]), _boxes(1))])
    assert (main.predictions.logits.shape[2], encoder.predictions.logits.shape[2]) == (15, 15)
    shapes = ((4, 5), (2, 3))
    memory = Memory(torch.randn(1, 26, 32), shapes)
    decoder = many_beside(setmatch_n(3, MultiScaleShape(dim=32, heads=4, num_queries=5)), SMALL)
    content, boxes = torch.randn(1, 19, 32), _boxes(19)[None]  # 4 noised, 5 ordinary, 10 extra
    query_mask = QueryAttentionMask(
        torch.ones(19, 19, dtype=torch.bool), torch.ones(19, 19).tril(-1) > 0
    )
    decoder = decoder.decoder
    before = decoder(content, boxes, memory, query_mask)[0]
    content[:, 9:] += 1
    after = decoder(content, boxes, memory, query_mask)[0]
    assert torch.equal(before[:, :, :9], after[:, :, :9])
    assert not torch.equal(before[:, :, 9:], after[:, :, 9:])


@pytest.mark.parametrize("sides", [(32, 48), (33, 47)])
def test_a_mosaic_has_every_image_in_every_quarter(benchmarks, sides: tuple[int, int]):
    """Boxes fit their objects, also in a padded image."""
    from mosaic import make_mosaics

    height, width = sides
    images = torch.zeros(4, 3, height, width)
    valid = torch.ones(4, height, width, dtype=torch.bool)
    for number in range(4):
        images[number, :, 8:24, 16:32] = number + 1
    valid[3, :, 36:] = False
    covers = [torch.tensor([width, height] * 2)] * 3 + [torch.tensor([36, height] * 2)]
    targets = [
        Target(torch.tensor([number]), torch.tensor([[24.0, 16, 16, 16]]) / cover)
        for number, cover in enumerate(covers)
    ]
    batch, mosaic_targets = make_mosaics(Batch(images, valid, True), targets)
    assert batch.pixels.shape == images.shape
    assert not batch.padded
    for image, target in enumerate(mosaic_targets):
        assert target.classes.tolist() == [(image + number) % 4 for number in range(4)]
        boxes = cxcywh_to_xyxy(target.cxcywh) * torch.tensor([width, height] * 2)
        for (left, top, right, bottom), number in zip(boxes.tolist(), target.classes.tolist()):
            inside = batch.pixels[
                image, 0, round(top) + 1 : round(bottom) - 1, round(left) + 1 : round(right) - 1
            ]
            assert inside.shape == (6, 6)
            assert torch.allclose(inside, torch.full_like(inside, number + 1.0))
            around = batch.pixels[image, 0, round(top) - 1 : round(bottom) + 1, round(left) - 2]
            assert torch.allclose(around, torch.zeros_like(around), atol=1e-3)


def test_a_mosaic_counts_every_target_four_times(benchmarks):
    """The loss is an average over targets, so steps weigh the same with and without mosaics."""
    from mosaic import MosaicLoss, MosaicOutput
    from setmatch.losses.normalizer import LossNormalizer

    counts = []
    target = Target(torch.tensor([0, 1]), _boxes(2))
    loss = MosaicLoss(lambda groups, targets, normalizer: counts.append(normalizer.counts))
    for repeats in (1, 4):
        loss(MosaicOutput((), (), repeats), [target], LossNormalizer.of([target], 9))
    assert [each.tolist() for each in counts] == [[2, 2, 9, 1], [8, 8, 9, 1]]
