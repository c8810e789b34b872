"""What the ablation adds to the family: distributions, one to many, mosaic."""

import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.classification import Varifocal
from setmatch.losses.criterion import Criterion
from setmatch.models.layers.box_relations import QueryAttentionMask
from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.presets import setmatch_n
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.batch import Batch, Target
from setmatch.structures.outputs import Assignment, PredictionGroup, Predictions

SMALL = MultiScaleShape(dim=32, heads=4, ffn_dim=32, num_queries=5, decoder_layers=2)


def _boxes(count: int) -> torch.Tensor:
    return torch.cat([torch.rand(count, 2) * 0.4 + 0.3, torch.rand(count, 2) * 0.2 + 0.2], dim=1)


def test_offsets_are_dense_around_nothing(benchmarks):
    """33 of them, symmetrical, further apart further out, up to the size of the box."""
    from distribution import offsets

    found = offsets()
    steps = found.diff()
    assert len(found) == 33
    assert torch.equal(found, -found.flip(0))
    assert found[[0, 1, 16, 31, 32]].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert (steps[16:].diff() > 0).all()


def test_a_box_is_the_mean_of_what_its_sides_owe(benchmarks):
    """Reading boxes undoes what makes distributions of targets; nothing said moves nothing."""
    from distribution import moved, owed

    torch.manual_seed(0)
    start, target = _boxes(200), _boxes(200)
    share = owed(start, target)
    assert torch.allclose(share.sum(-1), torch.ones(200, 4))
    assert ((share > 0).sum(-1) <= 2).all()
    reachable = (cxcywh_to_xyxy(start) - cxcywh_to_xyxy(target)).abs() < start[:, 2:].repeat(1, 2)
    assert reachable.all(1).sum() > 100
    found = moved(start, share.clamp(min=1e-30).log())
    assert torch.allclose(found[reachable.all(1)], target[reachable.all(1)], atol=1e-5)
    assert torch.allclose(moved(start, torch.zeros(200, 4, 33)), start, atol=1e-6)
    far = owed(torch.tensor([[0.1, 0.1, 0.1, 0.1]]), torch.tensor([[0.9, 0.9, 0.1, 0.1]]))
    assert far[0].argmax(-1).tolist() == [0, 0, 32, 32]


def test_distributions_that_say_what_they_owe_cannot_learn_more(benchmarks):
    """Their loss is least there, also in a padded image, and weighs as much as boxes overlap."""
    from distribution import _surprise, owed

    torch.manual_seed(0)
    start, boxes, extent = _boxes(2)[None], _boxes(2), torch.tensor([[0.5, 0.8]])
    number = torch.arange(2)
    pairs = Assignment(torch.zeros(2, dtype=torch.int64), number, number.flip(0))
    target = boxes[pairs.target] * extent.repeat(1, 2)
    sides = owed(start[0], target).clamp(min=1e-30).log()[None].requires_grad_()
    _surprise(pairs, sides, start, boxes[pairs.target][None], boxes, extent).backward()
    assert sides.grad.abs().max() < 1e-6
    elsewhere = torch.zeros_like(sides).requires_grad_()
    _surprise(pairs, elsewhere, start, boxes[pairs.target][None], boxes, extent).backward()
    assert elsewhere.grad.abs().max() > 0.1
    nowhere = torch.full((1, 2, 4), 9.0)
    assert _surprise(pairs, elsewhere, start, nowhere, boxes, extent) == 0


def test_every_copy_of_a_target_has_a_query_of_its_own(benchmarks):
    """And is owed the original's class and box, in every layer."""
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


def test_queries_beside_change_nothing_of_the_real_ones(benchmarks):
    """Bit for bit, whatever they hold; answers have none of them."""
    from one_to_many import many_beside

    torch.manual_seed(0)
    model = many_beside(setmatch_n(3, SMALL), SMALL)
    batch = Batch.from_images([torch.randn(3, 64, 96)])
    assert model.eval()(batch)[0].predictions.logits.shape[2] == 5
    main, encoder, _ = model.train()(batch, [Target(torch.tensor([1]), _boxes(1))])
    assert (main.predictions.logits.shape[2], encoder.predictions.logits.shape[2]) == (15, 15)
    shapes = ((4, 5), (2, 3))
    memory = Memory(torch.randn(1, 26, 32), None, shapes, torch.ones(1, 2))
    decoder = many_beside(setmatch_n(3, MultiScaleShape(dim=32, heads=4, num_queries=5)), SMALL)
    content, boxes = torch.randn(1, 19, 32), _boxes(19)[None]  # 4 spoilt, 5 real, 10 beside
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
def test_a_mosaic_has_every_picture_in_every_quarter(benchmarks, sides: tuple[int, int]):
    """Boxes stay around what they were around, also of a picture that was padded."""
    from mosaic import together

    height, width = sides
    pictures = torch.zeros(4, 3, height, width)
    valid = torch.ones(4, height, width, dtype=torch.bool)
    for number in range(4):
        pictures[number, :, 8:24, 16:32] = number + 1
    valid[3, :, 36:] = False
    covers = [torch.tensor([width, height] * 2)] * 3 + [torch.tensor([36, height] * 2)]
    targets = [
        Target(torch.tensor([number]), torch.tensor([[24.0, 16, 16, 16]]) / cover)
        for number, cover in enumerate(covers)
    ]
    batch, found = together(Batch(pictures, valid, True), targets)
    assert batch.pixels.shape == pictures.shape
    assert not batch.padded
    for image, target in enumerate(found):
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


def test_a_mosaic_counts_what_it_shows_four_times(benchmarks):
    """The loss is per object that was seen, so that a step weighs the same with or without."""
    from mosaic import AugmentationStats, OfSeen
    from setmatch.losses.criterion import LossNormalizer

    asked = []
    target = Target(torch.tensor([0, 1]), _boxes(2))
    objective = OfSeen(lambda streams, targets, normalizer: asked.append(normalizer.counts))
    for times in (1, 4):
        objective(AugmentationStats((), (), times), [target], LossNormalizer.of([target], 9))
    assert [counts.tolist() for counts in asked] == [[2, 2, 9, 1], [8, 8, 9, 1]]
