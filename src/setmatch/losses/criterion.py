"""The set loss: class and box terms, summed over streams and decoder layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.classification import ClassificationLoss, LossCounts, MatchedQueries
from setmatch.losses.masks import focal_and_dice
from setmatch.losses.matcher import start_matching
from setmatch.ops.boxes import cxcywh_to_xyxy, generalized_iou, intersection_over_union
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, MaskDecoder, PredictionGroup, Predictions
from setmatch.structures.packed_masks import pad_to_batch


@dataclass(frozen=True)
class LossNormalizer:
    """The counts that losses are divided by: boxes, matched queries, query slots, images.

    They belong to a whole accumulation window over all processes (published: to one process'
    batch), so that the losses of its micro-batches add up to the loss of the window.
    """

    counts: Float[Tensor, "4"]

    @classmethod
    def of(
        cls, targets: Sequence[Target], num_queries: int, device: torch.device | str = "cpu"
    ) -> "LossNormalizer":
        """Count the images of a window; sum `counts` over processes."""
        sizes = [len(target) for target in targets]
        matched = sum(min(size, num_queries) for size in sizes)
        counts = [sum(sizes), matched, len(sizes) * num_queries, len(sizes)]
        return cls(torch.tensor(counts, dtype=torch.float32, device=device))

    def times(self, repeats: int) -> LossCounts:
        """Return the counts for a stream that holds every target `repeats` times."""
        boxes, matched, class_indices, images = self.counts.unbind()
        return LossCounts(boxes * repeats, matched * repeats, class_indices * repeats, images)


@dataclass(frozen=True)
class GroupLosses:
    """The loss terms of one stream before weighting, a value per decoder layer. Two are logged,
    never trained: how many matched queries of the last layer name another class (percent), and by
    how many the queries that answer miss the number of objects. `masks` are focal and DICE loss of
    the last layer, None where the stream has no masks.
    """

    group: str
    classification: Float[Tensor, " L"]
    l1: Float[Tensor, " L"]
    giou: Float[Tensor, " L"]
    class_error: Float[Tensor, ""]
    cardinality_error: Float[Tensor, " L"]
    masks: Float[Tensor, "2"] | None = None


@dataclass(frozen=True)
class Losses:
    """What to minimize, and its parts."""

    total: Float[Tensor, ""]
    streams: tuple[GroupLosses, ...]

    @property
    def terms(self) -> dict[str, Tensor]:
        """The detached terms of each stream's last layer by name, as logs show them."""
        shown = {"loss": self.total.detach()}
        for terms in self.streams:
            prefix = "" if terms.group == "main" else f"{terms.group}/"
            shown |= {
                f"{prefix}class": terms.classification[-1].detach(),
                f"{prefix}l1": terms.l1[-1].detach(),
                f"{prefix}giou": terms.giou[-1].detach(),
                f"{prefix}class_error": terms.class_error,
                f"{prefix}cardinality_error": terms.cardinality_error[-1],
            }
            if terms.masks is not None:
                mask, dice = terms.masks.detach()
                shown |= {f"{prefix}mask": mask, f"{prefix}dice": dice}
        return shown


@dataclass(frozen=True)
class Criterion:
    """Matches every stream that does not bring its assignment, and sums its losses."""

    class_loss: ClassificationLoss
    costs: MatchCosts
    weights: LossWeights

    def __call__(
        self,
        streams: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer | None = None,
    ) -> Losses:
        """Return the weighted loss of all streams and layers, in float32 under any autocast.

        `normalizer` defaults to the counts of these targets alone (arXiv 2005.12872, eq. 2, and
        section "auxiliary decoding losses": every layer is matched anew and weighs the same).
        """
        device = streams[0].predictions.logits.device
        if normalizer is None:
            num_queries = streams[0].predictions.logits.shape[2]
            normalizer = LossNormalizer.of(targets, num_queries, device)
        with torch.autocast(device.type, enabled=False):
            asked = [self._assigning(group, targets) for group in streams]
            # Known assignments first: what they give a GPU to do covers the way of the costs.
            known_first = sorted(range(len(streams)), key=lambda at: streams[at].assignment is None)
            done = {
                at: self._terms(streams[at], asked[at](), targets, normalizer) for at in known_first
            }
            terms = tuple(done[at] for at in range(len(streams)))
            total = torch.stack([self._weighted(part) for part in terms]).sum()
        return Losses(total, terms)

    def _assigning(
        self, group: PredictionGroup, targets: Sequence[Target]
    ) -> Callable[[], list[Assignment]]:
        """Begin to match a stream; return what waits for its assignments, one of each layer."""
        logits, cxcywh = self._trained_layers(group.predictions)
        known = group.assignment
        if known is not None:
            return lambda: [known] * logits.shape[0]
        return start_matching(logits, cxcywh, targets, self.class_loss, self.costs).assignments

    def _weighted(self, terms: GroupLosses) -> Float[Tensor, ""]:
        weights = self.weights
        per_layer = weights.class_ * terms.classification
        total = (per_layer + weights.l1 * terms.l1 + weights.giou * terms.giou).sum()
        if terms.masks is None:
            return total
        mask, dice = terms.masks
        return total + weights.mask * mask + weights.dice * dice

    def _terms(
        self,
        group: PredictionGroup,
        assignments: Sequence[Assignment],
        targets: Sequence[Target],
        normalizer: LossNormalizer,
    ) -> GroupLosses:
        logits, cxcywh = self._trained_layers(group.predictions)
        layers = logits.shape[0]
        owed_slots = torch.cat([target.classes for target in targets])
        owed_boxes = torch.cat([target.cxcywh for target in targets])
        target = torch.cat([assignment.target for assignment in assignments])
        layer, image, query = _places(assignments)
        found, owed = cxcywh[layer, image, query], owed_boxes[target]
        found_xyxy, owed_xyxy = cxcywh_to_xyxy(found), cxcywh_to_xyxy(owed)
        # Every layer matches equally many pairs, so the flat pairs are (L, M) without a scatter.
        distance = (found - owed).abs().view(layers, -1)
        overlap = generalized_iou(found_xyxy, owed_xyxy).view(layers, -1)
        iou = intersection_over_union(found_xyxy.detach(), owed_xyxy)
        matches = MatchedQueries(layer, image, query, owed_slots[target], iou)
        counts = normalizer.times(group.repeats)
        return GroupLosses(
            group.name,
            self.class_loss.loss(logits, matches, counts),
            distance.sum(1) / counts.boxes.clamp(min=1),
            (1 - overlap).sum(1) / counts.boxes.clamp(min=1),
            _class_error(logits, matches, counts.matched.clamp(min=1)),
            _cardinality_error(self.class_loss, logits, targets, counts.images),
            _mask_terms(group, assignments[-1], targets, counts.boxes.clamp(min=1)),
        )

    def _trained_layers(
        self, predictions: Predictions
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"]]:
        first = 0 if self.weights.auxiliary else -1
        return predictions.logits[first:].float(), predictions.cxcywh[first:].float()


def _mask_terms(
    group: PredictionGroup, matched: Assignment, targets: Sequence[Target], boxes: Float[Tensor, ""]
) -> Float[Tensor, "2"] | None:
    """Return focal and DICE loss of the matched queries' masks; None where nobody makes any.

    Masks lie on the canvas of the batch, as published: beyond an image there is no object. Targets
    have masks all, or none has; then these are zero, and every parameter has a gradient.
    """
    mask_decoder = group.mask_decoder or _chosen(group.predictions.masks)
    if mask_decoder is None:
        return None
    known = [target.masks for target in targets if target.masks is not None]
    assert len(known) in (0, len(targets)), "the images of a data set have masks all, or none has"
    if not known:
        return mask_decoder(matched.image[:0], matched.query[:0]).sum() * boxes.new_zeros(2)
    logits = mask_decoder(matched.image, matched.query).float()
    return focal_and_dice(logits, pad_to_batch(known)[matched.target]).sum(1) / boxes


def _chosen(masks: Float[Tensor, "B Q h w"] | None) -> MaskDecoder | None:
    return None if masks is None else lambda image, query: masks[image, query]


def _places(assignments: Sequence[Assignment]) -> tuple[Tensor, Tensor, Tensor]:
    """Return layer, image and query of every matched pair, layer after layer."""
    pairs = assignments[0].query
    layer = torch.arange(len(assignments), device=pairs.device).repeat_interleave(len(pairs))
    image = torch.cat([assignment.image for assignment in assignments])
    query = torch.cat([assignment.query for assignment in assignments])
    return layer, image, query


@torch.no_grad()
def _class_error(
    logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, matched: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    last = matches.layer == logits.shape[0] - 1
    answered = logits[-1].argmax(-1)[matches.image, matches.query]
    return 100 * ((answered != matches.class_index) & last).sum() / matched


@torch.no_grad()
def _cardinality_error(
    class_loss: ClassificationLoss,
    logits: Float[Tensor, "L B Q C"],
    targets: Sequence[Target],
    images: Float[Tensor, ""],
) -> Float[Tensor, " L"]:
    counts = torch.tensor([len(target) for target in targets])
    counts = counts.to(logits.device, non_blocking=True)
    return (class_loss.predicts_object(logits).sum(-1) - counts).abs().float().sum(1) / images
