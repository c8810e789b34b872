"""The fast-converging family: its parts against direct loops, its streams against each other."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.boxes import cxcywh_to_xyxy, intersection_over_union
from setmatch.config import LossWeights, MatchCosts
from setmatch.criterion import Criterion
from setmatch.models.deformable import DeformableAttention
from setmatch.models.denoising import Denoising
from setmatch.models.heads import BoxStep
from setmatch.models.hybrid import Memory
from setmatch.models.presets import build
from setmatch.models.queries import TopKQueries
from setmatch.structures import Batch, Card, Categories, Target

NAMES = Categories((0, 1, 2), ("a", "b", "c"))
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 7, "denoising_queries": 20}


def _model(preset: str = "setmatch_n"):
    torch.manual_seed(0)
    return build(Card(preset, SMALL, NAMES))


def _moved(preset: str):
    """A model in float64 all of whose weights do something: many begin at zero."""
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


def _memory(shapes: tuple[tuple[int, int], ...], dim: int, seed: int = 0) -> Memory:
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, sum(h * w for h, w in shapes), dim, generator=random)
    return Memory(tokens, None, shapes, torch.ones(2, 2))


def _pixel(level: torch.Tensor, row: int, column: int) -> torch.Tensor:
    inside = 0 <= row < level.shape[0] and 0 <= column < level.shape[1]
    return level[row, column] if inside else torch.zeros_like(level[0, 0])


def _bilinear(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Sample (h, w, D) at fractions x, y, cell centres at half a cell, zero outside."""
    column, row = x * level.shape[1] - 0.5, y * level.shape[0] - 0.5
    left, top = math.floor(column), math.floor(row)
    right, low = column - left, row - top
    return (
        (1 - right) * (1 - low) * _pixel(level, top, left)
        + right * (1 - low) * _pixel(level, top, left + 1)
        + (1 - right) * low * _pixel(level, top + 1, left)
        + right * low * _pixel(level, top + 1, left + 1)
    )


@given(st.integers(0, 1000), st.sampled_from([((3, 4), (2, 2)), ((1, 1), (1, 5)), ((2, 3),)]))
@settings(max_examples=25)
def test_deformable_attention_equals_a_direct_loop(seed: int, shapes: tuple[tuple[int, int], ...]):
    """Every head, level and point by hand, boxes at corners and beyond, levels of one cell."""
    torch.manual_seed(seed)
    attention = DeformableAttention(8, 2, len(shapes), 3).double()
    with torch.no_grad():
        attention.offsets.weight.normal_(0, 0.5)
        attention.attention.weight.normal_(0, 0.5)
    memory = _memory(shapes, 8, seed)
    memory = replace(memory, tokens=memory.tokens.double())
    query, boxes = torch.randn(2, 4, 8).double(), torch.rand(2, 4, 4).double()
    boxes[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    boxes[0, 1] = torch.tensor([1.0, 1.0, 0.3, 2.0])
    with torch.no_grad():
        spread = (2, len(shapes), 3)
        offsets = attention.offsets(query).view(2, 4, *spread, 2)
        weights = attention.attention(query).view(2, 4, 2, -1).softmax(-1).view(2, 4, *spread)
        value = attention.value(memory.tokens)
        expected = torch.zeros(2, 4, 8, dtype=torch.float64)
        for image in range(2):
            levels = value[image].split([h * w for h, w in shapes])
            for q in range(4):
                cx, cy, width, height = boxes[image, q].tolist()
                for head in range(2):
                    mine = slice(4 * head, 4 * head + 4)
                    for index, shape in enumerate(shapes):
                        level = levels[index].view(*shape, 8)[..., mine]
                        for point in range(3):
                            at = (image, q, head, index, point)
                            right, down = offsets[at].tolist()
                            x, y = cx + right * width / 2, cy + down * height / 2
                            seen = _bilinear(level, x, y)
                            expected[image, q, mine] += weights[at].item() * seen
        ours = attention(query, boxes, memory)
        theirs = attention.out(expected)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("place", "seen"),
    [
        ((0.25, 0.25), 1.0),  # the middle of the first cell
        ((0.5, 0.25), 1.5),  # half-way to its neighbour
        ((0.0, 0.0), 0.25),  # a corner of the canvas: three of four neighbours are beyond
        ((1.0, 1.0), 1.0),
        ((1.0, 0.5), 1.5),  # half of the mean of two cells
        ((-0.25, 0.25), 0.0),  # a cell's width beyond
        ((7.0, -3.0), 0.0),
    ],
)
def test_a_point_sees_what_lies_around_it_and_zero_beyond(place: tuple[float, float], seen: float):
    """Middles of cells, borders and corners of the canvas, and far outside, exactly."""
    attention = DeformableAttention(4, 1, 1, 1)
    for part in (attention.value, attention.out):
        torch.nn.init.eye_(part.weight)
        torch.nn.init.zeros_(part.bias)
    torch.nn.init.zeros_(attention.offsets.bias)
    cells = torch.tensor([[1.0, 2.0, 3.0, 4.0]])[..., None].expand(1, 4, 4).contiguous()
    memory = Memory(cells, None, ((2, 2),), torch.ones(1, 2))
    box = torch.tensor([[[*place, 0.1, 0.1]]])
    assert torch.equal(attention(torch.zeros(1, 1, 4), box, memory), torch.full((1, 1, 4), seen))


def test_a_level_of_one_cell_is_that_cell_around_its_middle():
    """It fades to half at the border and to nothing half a canvas beyond."""
    attention = DeformableAttention(4, 1, 1, 1)
    for part in (attention.value, attention.out):
        torch.nn.init.eye_(part.weight)
        torch.nn.init.zeros_(part.bias)
    torch.nn.init.zeros_(attention.offsets.bias)
    memory = Memory(torch.full((1, 1, 4), 8.0), None, ((1, 1),), torch.ones(1, 2))
    boxes = torch.tensor([[[0.5, 0.5, 1, 1], [1.0, 0.5, 1, 1], [1.5, 0.5, 1, 1]]])
    found = attention(torch.zeros(1, 3, 4), boxes, memory)
    assert found[0, :, 0].tolist() == [8.0, 4.0, 0.0]


def test_attention_weights_of_a_query_sum_to_one():
    """Over all levels and points of a head together."""
    attention = DeformableAttention(8, 2, 2, 3)
    _, weights = attention.look(torch.randn(1, 5, 8), torch.rand(1, 5, 4))
    assert torch.allclose(weights.sum((-1, -2)), torch.ones(1, 5, 2))


def test_what_is_not_valid_is_never_seen():
    """Padding cannot leak through a sampling point that falls on it."""
    memory = _memory(((4, 4),), 8)
    valid = torch.ones(2, 16, dtype=torch.bool)
    valid[:, 8:] = False
    attention = DeformableAttention(8, 2, 1, 3)
    query, boxes = torch.randn(2, 3, 8), torch.rand(2, 3, 4)
    before = attention(query, boxes, Memory(memory.tokens, valid, memory.shapes, memory.extent))
    spoilt = memory.tokens.clone()
    spoilt[:, 8:] = 99.0
    after = attention(query, boxes, Memory(spoilt, valid, memory.shapes, memory.extent))
    assert torch.equal(before, after)


def test_top_k_takes_peaks_first():
    """Each token at most once; fewer tokens than queries give fewer queries."""
    memory = _memory(((2, 5), (1, 1)), 8)
    queries = TopKQueries(4, 8, 3)
    chosen = queries(memory)
    for image, logits in enumerate(queries.class_head(queries.prepare(memory.tokens))):
        level = logits[:10].view(2, 5, 3)
        surpassed = torch.ones(11, 3, dtype=torch.bool)
        for row in range(2):
            for column in range(5):
                around = level[:, max(column - 1, 0) : column + 2].amax((0, 1))
                surpassed[5 * row + column] = level[row, column] < around
        surpassed[10] = False  # alone on its level
        assert surpassed[:10].any()
        assert not surpassed[:10].all()
        owed = (logits - 1000 * surpassed).amax(1).topk(4).indices
        assert torch.equal(chosen.logits[image], logits[owed])
    assert chosen.content.requires_grad is False
    assert TopKQueries(50, 8, 3)(memory).cxcywh.shape == (2, 11, 4)


def test_cells_that_tie_surpass_each_other_nowhere():
    """Of a plateau all cells are peaks but those beside a likelier one; none is chosen twice."""
    queries = TopKQueries(4, 8, 1)
    logits = torch.tensor([1.0, 1.0, 3.0, 1.0, 1.0, 1.0])[None, :, None]
    chosen = queries.priority(logits, ((1, 6),)).topk(4).indices
    assert sorted(chosen[0].tolist()) == [0, 2, 4, 5]
    flat = Memory(torch.ones(2, 6, 8), None, ((1, 6),), torch.ones(2, 2))
    first, second = queries(flat).cxcywh
    assert len(first.unique(dim=0)) == 4
    assert torch.equal(first, second)  # alike images, the same choice


def test_what_lies_off_the_image_is_chosen_last_and_surpasses_nothing():
    """The padding takes no part, however likely it looks."""
    memory = _memory(((1, 6),), 8)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    queries = TopKQueries(4, 8, 3)
    chosen = []
    for seed in range(2):
        torch.manual_seed(seed)
        tokens = torch.where(valid[..., None], memory.tokens, torch.randn(2, 6, 8))
        chosen.append(queries(Memory(tokens, valid, memory.shapes, memory.extent)))
    assert (chosen[0].cxcywh[..., 0] < 4 / 6).all()
    assert torch.equal(chosen[0].logits, chosen[1].logits)


def test_an_untrained_step_leaves_boxes_where_they_are():
    """So that refinement begins as the identity."""
    boxes = torch.rand(2, 5, 4) * 0.8 + 0.1
    assert torch.allclose(BoxStep(8)(torch.randn(2, 5, 8), boxes), boxes, atol=1e-5)


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (0, 0), (30, 1)])
def test_denoising_spoils_boxes_within_its_bounds(counts: tuple[int, int]):
    """Positives stay within half of box_noise; each positive knows its target."""
    torch.manual_seed(1)
    targets = _targets(*counts)
    noisy = Denoising(3, 8, queries=24)(targets, torch.ones(2, 2))
    most = max(*counts, 1)
    assert noisy.groups == max(1, 24 // (2 * most))
    assert noisy.content.shape[1] == 2 * max(counts) * noisy.groups
    assert noisy.real.sum(1).tolist() == [2 * noisy.groups * count for count in counts]
    owed = torch.cat([target.cxcywh for target in targets])[noisy.assignment.target]
    found = noisy.cxcywh[noisy.assignment.image, noisy.assignment.query]
    assert noisy.real[noisy.assignment.image, noisy.assignment.query].all()
    assert len(owed) == noisy.groups * sum(counts)
    limit = 0.4 * owed[:, 2:] + 1e-5
    assert ((found[:, :2] - owed[:, :2]).abs() <= limit).all()


def test_a_negative_is_no_box_of_its_target():
    """Corners that all move by 0.4 to 0.8 sides leave an IoU of 0.41; a positive may have it all.

    Most is left where one axis grows to 1.8 sides and on the other, ends having crossed, 0.6 stay.
    """
    torch.manual_seed(0)
    target = Target(torch.zeros(1, dtype=torch.int64), torch.tensor([[0.5, 0.5, 0.2, 0.2]]))
    noisy = Denoising(3, 8, queries=2000)([target], torch.ones(1, 2))
    overlap = intersection_over_union(
        cxcywh_to_xyxy(noisy.cxcywh[0]), cxcywh_to_xyxy(target.cxcywh)
    )
    positive, negative = overlap.view(-1, 2).unbind(1)  # a group is one of each
    assert negative.max() <= 0.6 / (1 + 1.8 * 0.6 - 0.6)
    assert positive.median() > 0.45


class Still(torch.nn.Module):
    """A decoder that answers with the boxes it was given."""

    def forward(self, content, cxcywh, memory, peers):
        return content.new_zeros(1, *content.shape[:2], 3), cxcywh[None], content


def test_boxes_are_fractions_of_the_canvas_inside_and_of_the_image_outside():
    """Unspoilt targets come back as they were, however far an image is from filling its canvas."""
    model = _model().train()
    model.decoder, model.denoising.box_noise = Still(), 0.0
    images = [torch.randn(3, 64, 96), torch.randn(3, 128, 64)]
    targets = [
        Target(target.classes, target.cxcywh * torch.tensor([1, 1, 0.5, 0.5]))  # inside the image
        for target in _targets(3, 2)
    ]
    main, encoder, denoising = model(Batch.from_images(images), targets)
    known = denoising.assignment
    found = denoising.predictions.cxcywh[0, known.image, known.query]
    owed = torch.cat([target.cxcywh for target in targets])[known.target]
    assert torch.allclose(found, owed, atol=1e-6)
    for stream in (main, encoder):
        centres = stream.predictions.cxcywh[..., :2]
        assert (centres < 1).all()
        assert (centres.amax((0, 2)) > 0.5).all(), "on the canvas one side of each ends there"


def test_no_gradient_flows_through_the_box_a_layer_starts_from():
    """Each layer learns by how it moves boxes, not by where the last one left them."""
    model = _moved("setmatch_n")
    batch = Batch.from_images([torch.randn(3, 64, 96).double()])
    main, *_ = model(batch, _targets(2))
    main.predictions.cxcywh[-1].sum().backward()
    first, *_, last = model.decoder.box_steps
    assert all(not parameter.grad.any() for parameter in first.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in last.parameters())


@pytest.mark.parametrize("preset", ["setmatch_n", "setmatch_n_panoptic"])
def test_targets_never_leak_into_the_answers(preset: str):
    """The main stream is the same, bit for bit, whatever the denoising queries hold.

    Another number of them, or none, makes matrices of another size, whose products round otherwise.
    """
    model = _moved(preset)
    batch = Batch.from_images([torch.randn(3, 64, 96).double()] * 2)
    every = torch.arange(2).repeat_interleave(7), torch.arange(7).repeat(2)
    outputs = []
    for targets in (_targets(3, 1), _targets(1, 3)[::-1], _targets(0, 3), _targets(5, 0)):
        torch.manual_seed(7)
        main, encoder, denoising = model(batch, targets)
        assert (main.name, encoder.name, denoising.name) == ("main", "encoder", "denoising")
        masks = None if main.masks_of is None else main.masks_of(*every).unflatten(0, (2, 7))
        outputs.append(replace(main.predictions, masks=masks))
    first, *others, more = outputs
    assert (first.masks is None) == (preset == "setmatch_n")
    assert (first.cxcywh[0] - first.cxcywh[-1]).abs().amax() > 0.01, "layers move boxes"
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
def test_every_parameter_learns_from_any_batch(counts: tuple[int, int]):
    """No targets, one, more than queries: finite loss, a gradient for each parameter."""
    model = _model().train()
    streams = model(Batch.from_images([torch.randn(3, 64, 96)] * 2), _targets(*counts))
    losses = Criterion(model.scoring, MatchCosts(), LossWeights())(streams, _targets(*counts))
    losses.total.backward()
    assert torch.isfinite(losses.total)
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_a_padded_image_covers_its_part_of_the_canvas():
    """Its extent says which, by which boxes become fractions of the image; padding adds no token."""
    model = _model().eval()
    model.backbone = torch.nn.Identity()
    levels = [torch.randn(1, c, 16 // s, 24 // s) for c, s in zip((64, 128, 128), (2, 4, 8))]
    padded = [torch.nn.functional.pad(x, (0, x.shape[3], 0, x.shape[2])) for x in levels]
    alone = Batch(torch.zeros(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool), False)
    valid = torch.zeros(1, 128, 192, dtype=torch.bool)
    valid[:, :64, :96] = True
    wide = Batch(torch.zeros(1, 3, 128, 192), valid, True)
    with torch.no_grad():
        whole = model.encoder(levels, alone)
        part = model.encoder(padded, wide)
    assert whole.extent.tolist() == [[1.0, 1.0]]
    assert part.extent.tolist() == [[0.5, 0.5]]
    assert part.valid.sum() == whole.tokens.shape[1]
