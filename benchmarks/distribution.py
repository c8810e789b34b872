"""Boxes from distributions of side offsets, as in D-FINE (arXiv 2410.13842, sections 4.1 and 4.2).

The first decoder layer refines a box as ours do. Then every layer predicts, for each side of that
box, a distribution over offsets, as a correction of the previous layer's logits. Not included:
self-distillation from the last layer, and the estimate of a box's quality.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.losses.criterion import Criterion, Losses
from setmatch.losses.matcher import match
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.decoders.deformable_decoder import RefiningDecoder
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.heads import BoxRefinementHead
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.ops.boxes import cxcywh_to_xyxy, intersection_over_union, xyxy_to_cxcywh
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, PredictionGroup
from without import layers_of, logits_of, recomposed

INNER = 15  # offsets on either side of zero up to half a box, denser near zero
MIN_SIDE = 1e-3  # fraction of the image; predicted sides may cross each other
DISTRIBUTION_WEIGHT = 0.15  # of the distribution loss, as published


def offsets(device: torch.device | str = "cpu") -> Float[Tensor, " N"]:
    """Return the outward offsets of a side, as fractions of the box's size; equation 2."""
    inner = (3 ** (torch.arange(1, INNER + 1, device=device) / INNER) - 1) / 4
    end = inner.new_ones(1)
    return torch.cat([-end, -inner.flip(0), 0 * end, inner, end])


def move_sides(
    start: Float[Tensor, "*n 4"], sides: Float[Tensor, "*n 4 N"]
) -> Float[Tensor, "*n 4"]:
    """Return the boxes `start` (cxcywh), each side moved by the mean of its distribution."""
    out = sides.softmax(-1) @ offsets(sides.device)
    reach = (out + 0.5) * start[..., 2:].repeat(*[1] * (start.ndim - 1), 2)
    center = start[..., :2]
    box = xyxy_to_cxcywh(torch.cat([center - reach[..., :2], center + reach[..., 2:]], dim=-1))
    return torch.cat([box[..., :2], box[..., 2:].clamp(min=MIN_SIDE)], dim=-1)


def target_distributions(
    start: Float[Tensor, "M 4"], target: Float[Tensor, "M 4"]
) -> Float[Tensor, "M 4 N"]:
    """Return distributions over two neighboring offsets whose means move `start` to `target`."""
    low, high = cxcywh_to_xyxy(target).chunk(2, dim=-1)
    center, size = start.chunk(2, dim=-1)
    steps = offsets(start.device)
    out = (torch.cat([center - low, high - center], dim=-1) / size.repeat(1, 2) - 0.5).clamp(-1, 1)
    right = torch.searchsorted(steps, out.contiguous()).clamp(1, len(steps) - 1)
    weight = (out - steps[right - 1]) / (steps[right] - steps[right - 1])
    one_hot = F.one_hot(torch.stack([right - 1, right]), len(steps)) * 1.0
    return one_hot[0] * (1 - weight)[..., None] + one_hot[1] * weight[..., None]


class Sides(nn.Module):
    """An MLP that corrects the logits of a box's sides; its initial output is zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)
        self.last = nn.Linear(dim, 4 * len(offsets()))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, content: Float[Tensor, "B Q D"]) -> Float[Tensor, "B Q 4 N"]:
        """Return the correction of the logits, in float32 even under autocast."""
        hidden = F.relu(self.second(F.relu(self.first(content))))
        return self.last(hidden).float().unflatten(-1, (4, -1))


@dataclass(frozen=True)
class SideDistributions:
    """The side logits of a forward pass, and the boxes that they move."""

    sides: Float[Tensor, "L B Q 4 N"]
    start: Float[Tensor, "B Q 4"]


class DistributionDecoder(RefiningDecoder):
    """A decoder with one output more than layers: the first is the box that the others move."""

    distributions: SideDistributions | None = None  # of the last forward pass in training

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
        """Return all logits and boxes, and the last content."""
        logits: list[Tensor] = []
        boxes: list[Tensor] = []
        distributions: list[Tensor] = []
        heads = zip(self.layers, self.class_heads, self.sides, strict=True)
        for layer, class_head, correct in heads:
            before = content.detach()
            content = layer(content, self.position(cxcywh), cxcywh, memory, query_mask)
            logits.append(class_head(content).float())
            if not distributions:
                boxes.append(self.box_steps[0](content, cxcywh))
                logits.append(logits[0])
                start = boxes[0].detach()
                distributions.append(correct(content))
            else:
                distributions.append(distributions[-1] + correct(content + before))
            boxes.append(move_sides(start, distributions[-1]))
            cxcywh = boxes[-1].detach()
        if self.training:
            self.distributions = SideDistributions(torch.stack(distributions), start)
        return torch.stack(logits), torch.stack(boxes), content

    def take(self) -> SideDistributions:
        """Return the distributions of the last forward pass, and remove them."""
        distributions, self.distributions = self.distributions, None
        assert distributions is not None, "a loss follows a forward pass in training"
        return distributions


@dataclass(frozen=True)
class FineGrained:
    """The set loss with a cross-entropy loss of the distributions; equation 3."""

    criterion: Criterion
    decoder: DistributionDecoder

    def __call__(
        self,
        groups: tuple[PredictionGroup, ...],
        targets: tuple[Target, ...],
        normalizer: LossNormalizer,
    ) -> Losses:
        """Return the losses. The total includes the distribution loss."""
        losses = self.criterion(groups, targets, normalizer)
        distributions = self.decoder.take()
        main, _, denoising = groups
        noised = denoising.predictions.logits.shape[2]
        parts = (
            (main, distributions.sides[:, :, noised:], distributions.start[:, noised:]),
            (denoising, distributions.sides[:, :, :noised], distributions.start[:, :noised]),
        )
        losses_of_groups = [
            self._distribution_loss(group, sides, start, targets)
            / normalizer.times(group.repeats).boxes.clamp(min=1)
            for group, sides, start in parts
        ]
        return replace(
            losses, total=losses.total + DISTRIBUTION_WEIGHT * torch.stack(losses_of_groups).sum()
        )

    def _distribution_loss(
        self,
        group: PredictionGroup,
        sides: Float[Tensor, "L B Q 4 N"],
        start: Float[Tensor, "B Q 4"],
        targets: tuple[Target, ...],
    ) -> Float[Tensor, ""]:
        logits, cxcywh = group.predictions.logits[1:], group.predictions.cxcywh[1:]
        criterion, boxes = self.criterion, torch.cat([target.cxcywh for target in targets])
        assignments = (
            [group.assignment] * len(sides)
            if group.assignment is not None
            else match(logits, cxcywh, targets, criterion.class_loss, criterion.costs)
        )
        return torch.stack(
            [
                _cross_entropy(pairs, layer, start, predicted, boxes)
                for pairs, layer, predicted in zip(assignments, sides, cxcywh, strict=True)
            ]
        ).sum()


def _cross_entropy(
    pairs: Assignment,
    sides: Float[Tensor, "B Q 4 N"],
    start: Float[Tensor, "B Q 4"],
    predicted: Float[Tensor, "B Q 4"],
    boxes: Float[Tensor, "T 4"],
) -> Float[Tensor, ""]:
    """Return the cross-entropy of one layer, weighted by the IoU of each box with its target."""
    place, target = (pairs.image, pairs.query), boxes[pairs.target]
    xyxy = cxcywh_to_xyxy(predicted[place].detach())
    weight = intersection_over_union(xyxy, cxcywh_to_xyxy(target))
    entropy = -(target_distributions(start[place], target) * sides[place].log_softmax(-1)).sum(
        (1, 2)
    )
    return (weight * entropy).sum()


class FineGrainedDetector(SetMatchDetector):
    """The setmatch detector with the distribution loss."""

    def objective(self, set_loss: Any) -> Any:
        """Return the set loss with the distribution loss."""
        return FineGrained(set_loss(self.class_loss), cast(DistributionDecoder, self.decoder))


def distributions(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Return the detector with boxes from distributions."""
    detector.decoder = DistributionDecoder(layers_of(detector), shape.dim, logits_of(detector))
    return detector


def fine_grained(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Return the detector with boxes from distributions and their loss."""
    return recomposed(distributions(detector, shape), FineGrainedDetector)
