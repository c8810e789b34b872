"""Boxes read from distributions, as in D-FINE (arXiv 2410.13842, sections 4.1 and 4.2).

The first decoder layer moves a box as ours do; from there on every layer predicts, for each side of
that box, how probable each of a few offsets is, as a correction of what the layer before said.
Left out: self-distillation from the last layer, and the estimate of a box's quality.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.losses.criterion import Criterion, Losses, LossNormalizer
from setmatch.losses.matcher import match
from setmatch.models.layers.box_relations import QueryAttentionMask
from setmatch.models.layers.deformable_decoder import RefiningDecoder
from setmatch.models.layers.heads import BoxRefinementHead
from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.ops.boxes import cxcywh_to_xyxy, intersection_over_union, xyxy_to_cxcywh
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, PredictionGroup
from without import layers_of, logits_of, recomposed

INNER = 15  # offsets on either side of zero, dense around it, up to half a box
SMALLEST = 1e-3  # of a side, as a fraction of the canvas: sides may pass each other
FINE_GRAINED = 0.15  # the weight of the distributions' own loss, as published


def offsets(device: torch.device | str = "cpu") -> Float[Tensor, " N"]:
    """Return by how much a side may move outwards, in widths or heights of its box; equation 2."""
    inner = (3 ** (torch.arange(1, INNER + 1, device=device) / INNER) - 1) / 4
    end = inner.new_ones(1)
    return torch.cat([-end, -inner.flip(0), 0 * end, inner, end])


def moved(start: Float[Tensor, "*n 4"], sides: Float[Tensor, "*n 4 N"]) -> Float[Tensor, "*n 4"]:
    """Return the boxes `start` (cxcywh), each side moved by the mean of its distribution."""
    out = sides.softmax(-1) @ offsets(sides.device)
    reach = (out + 0.5) * start[..., 2:].repeat(*[1] * (start.ndim - 1), 2)
    center = start[..., :2]
    box = xyxy_to_cxcywh(torch.cat([center - reach[..., :2], center + reach[..., 2:]], dim=-1))
    return torch.cat([box[..., :2], box[..., 2:].clamp(min=SMALLEST)], dim=-1)


def owed(start: Float[Tensor, "M 4"], target: Float[Tensor, "M 4"]) -> Float[Tensor, "M 4 N"]:
    """Return distributions whose means turn `start` into `target`: two neighbors share them."""
    low, high = cxcywh_to_xyxy(target).chunk(2, dim=-1)
    center, size = start.chunk(2, dim=-1)
    steps = offsets(start.device)
    out = (torch.cat([center - low, high - center], dim=-1) / size.repeat(1, 2) - 0.5).clamp(-1, 1)
    right = torch.searchsorted(steps, out.contiguous()).clamp(1, len(steps) - 1)
    share = (out - steps[right - 1]) / (steps[right] - steps[right - 1])
    apart = F.one_hot(torch.stack([right - 1, right]), len(steps)) * 1.0
    return apart[0] * (1 - share)[..., None] + apart[1] * share[..., None]


class Sides(nn.Module):
    """A perceptron that corrects the logits of a box's sides; it begins by saying nothing."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)
        self.last = nn.Linear(dim, 4 * len(offsets()))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, content: Float[Tensor, "B Q D"]) -> Float[Tensor, "B Q 4 N"]:
        """Return what to add to the logits, in float32 even under autocast."""
        hidden = F.relu(self.second(F.relu(self.first(content))))
        return self.last(hidden).float().unflatten(-1, (4, -1))


@dataclass(frozen=True)
class Said:
    """What the distributions of a forward pass were, and the boxes they started from."""

    sides: Float[Tensor, "L B Q 4 N"]
    start: Float[Tensor, "B Q 4"]  # fractions of the canvas, of which an image covers `extent`
    valid_ratio: Float[Tensor, "B 2"]


class DistributionDecoder(RefiningDecoder):
    """Answers once more than it has layers: the first also moves the box that all start from."""

    said: Said | None = None  # of the last forward pass in training, for whoever takes it

    def __init__(self, layers: list[Any], dim: int, logits: int) -> None:
        super().__init__(layers, dim, logits)
        self.box_steps = nn.ModuleList([BoxRefinementHead(dim)])
        self.sides = nn.ModuleList(Sides(dim) for _ in layers)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"], Float[Tensor, "B Q D"]]:
        """Return all logits and boxes, in fractions of the canvas, and the last content."""
        logits: list[Tensor] = []
        boxes: list[Tensor] = []
        said: list[Tensor] = []
        heads = zip(self.layers, self.class_heads, self.sides, strict=True)
        for layer, class_head, correct in heads:
            before = content.detach()
            content = layer(content, self.position(2 * cxcywh - 1), cxcywh, memory, query_mask)
            logits.append(class_head(content).float())
            if not said:
                boxes.append(self.box_steps[0](content, cxcywh))
                logits.append(logits[0])
                start = boxes[0].detach()
                said.append(correct(content))
            else:
                said.append(said[-1] + correct(content + before))
            boxes.append(moved(start, said[-1]))
            cxcywh = boxes[-1].detach()
        if self.training:
            self.said = Said(torch.stack(said), start, memory.valid_ratio)
        return torch.stack(logits), torch.stack(boxes), content

    def take(self) -> Said:
        """Return what the last forward pass said, and forget it."""
        said, self.said = self.said, None
        assert said is not None, "a loss follows a forward pass in training"
        return said


@dataclass(frozen=True)
class FineGrained:
    """The set loss, and the cross-entropy of the distributions with what they owe; equation 3."""

    criterion: Criterion
    decoder: DistributionDecoder

    def __call__(
        self,
        streams: tuple[PredictionGroup, ...],
        targets: tuple[Target, ...],
        normalizer: LossNormalizer,
    ) -> Losses:
        """Return the losses, whose total has the distributions' share."""
        losses = self.criterion(streams, targets, normalizer)
        said = self.decoder.take()
        main, _, denoising = streams
        spoilt = denoising.predictions.logits.shape[2]
        parts = (
            (main, said.sides[:, :, spoilt:], said.start[:, spoilt:]),
            (denoising, said.sides[:, :, :spoilt], said.start[:, :spoilt]),
        )
        shares = [
            self._share(stream, sides, start, said.valid_ratio, targets)
            / normalizer.times(stream.repeats).boxes.clamp(min=1)
            for stream, sides, start in parts
        ]
        return replace(losses, total=losses.total + FINE_GRAINED * torch.stack(shares).sum())

    def _share(
        self,
        stream: PredictionGroup,
        sides: Float[Tensor, "L B Q 4 N"],
        start: Float[Tensor, "B Q 4"],
        valid_ratio: Float[Tensor, "B 2"],
        targets: tuple[Target, ...],
    ) -> Float[Tensor, ""]:
        logits, cxcywh = stream.predictions.logits[1:], stream.predictions.cxcywh[1:]
        criterion, boxes = self.criterion, torch.cat([target.cxcywh for target in targets])
        assignments = (
            [stream.assignment] * len(sides)
            if stream.assignment is not None
            else match(logits, cxcywh, targets, criterion.class_loss, criterion.costs)
        )
        return torch.stack(
            [
                _surprise(pairs, layer, start, found, boxes, valid_ratio)
                for pairs, layer, found in zip(assignments, sides, cxcywh, strict=True)
            ]
        ).sum()


def _surprise(
    pairs: Assignment,
    sides: Float[Tensor, "B Q 4 N"],
    start: Float[Tensor, "B Q 4"],
    found: Float[Tensor, "B Q 4"],
    boxes: Float[Tensor, "T 4"],
    valid_ratio: Float[Tensor, "B 2"],
) -> Float[Tensor, ""]:
    """Return the cross-entropies of one layer, each weighing what its box overlaps its target."""
    place, target = (pairs.image, pairs.query), boxes[pairs.target]
    on_canvas = target * valid_ratio[pairs.image].repeat(1, 2)
    answer = cxcywh_to_xyxy(found[place].detach())
    weight = intersection_over_union(answer, cxcywh_to_xyxy(target))
    surprise = -(owed(start[place], on_canvas) * sides[place].log_softmax(-1)).sum((1, 2))
    return (weight * surprise).sum()


class FineGrainedDetector(SetMatchDetector):
    """The family, with the loss of its distributions."""

    def objective(self, set_loss: Any) -> Any:
        """Return the set loss with the loss of the distributions."""
        return FineGrained(set_loss(self.class_loss), cast(DistributionDecoder, self.decoder))


def distributions(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Let a detector read its boxes from distributions."""
    detector.decoder = DistributionDecoder(layers_of(detector), shape.dim, logits_of(detector))
    return detector


def fine_grained(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """The same, and let the distributions learn from a loss of their own."""
    return recomposed(distributions(detector, shape), FineGrainedDetector)
