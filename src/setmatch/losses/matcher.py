"""Hungarian matching: assigns each target one query, at the lowest total cost per image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from setmatch.config import MatchCosts
from setmatch.losses.classification import ClassificationLoss
from setmatch.ops.boxes import cxcywh_to_xyxy, generalized_iou, intersection_over_union
from setmatch.structures.batch import Target, require_targets
from setmatch.structures.outputs import Assignment, Predictions
from setmatch.structures.tensor_checks import require_kind

# The later matching cost of DEIMv2's published training: which of a target's queries scores best.
BY_QUALITY = MatchCosts.model_validate({"class": 0, "l1": 0, "giou": 0, "quality": 1})
IOU_POWER = 4  # of the quality
INVALID_COST = 1e6  # replaces a non-finite cost; far above any real one


@torch.no_grad()
def match(
    logits: Float[Tensor, "L B Q C"],
    cxcywh: Float[Tensor, "L B Q 4"],
    targets: Sequence[Target],
    class_loss: ClassificationLoss,
    costs: MatchCosts,
) -> list[Assignment]:
    """Match all decoder layers (arXiv 2005.12872, equation 1).

    Returns one Assignment per layer, sorted by image, then query. If an image has more targets than
    queries, the targets with the highest cost stay unmatched. Non-finite predictions are matched
    last instead of raising, so that one bad image cannot end a run. Raises ConfigError for
    predictions of other shapes, another loss or costs, and DataError for targets that do not fit.
    """
    Predictions(logits, cxcywh)  # which checks them
    require_kind("match: class_loss", class_loss, ClassificationLoss)
    require_kind("match: costs", costs, MatchCosts)
    num_classes = logits.shape[-1] - class_loss.num_logits(1) + 1
    require_targets(targets, logits.shape[1], num_classes, logits.device)
    return start_matching(logits, cxcywh, targets, class_loss, costs).assignments()


@torch.no_grad()
def start_matching(
    logits: Float[Tensor, "L B Q C"],
    cxcywh: Float[Tensor, "L B Q 4"],
    targets: Sequence[Target],
    class_loss: ClassificationLoss,
    costs: MatchCosts,
    query_groups: int = 1,
) -> "PendingMatch":
    """Compute the costs and start to copy them to the CPU, without waiting for the copy.

    Each of `query_groups` equal parts of the queries is matched by itself.
    """
    counts = tuple(len(target) for target in targets)
    if sum(counts) == 0:
        nothing = torch.empty(*logits.shape[:3], 0)
        return PendingMatch(nothing, counts, logits.device, None, query_groups)
    cost = pairwise_cost(logits, cxcywh, targets, class_loss, costs)
    cost.nan_to_num_(nan=INVALID_COST, posinf=INVALID_COST, neginf=-INVALID_COST)
    host_cost = cost.to("cpu", non_blocking=cost.is_cuda)
    copied = None
    if cost.is_cuda:
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types for it
        copied.record(torch.cuda.current_stream(cost.device))
    return PendingMatch(host_cost, counts, logits.device, copied, query_groups)


@dataclass(frozen=True)
class PendingMatch:
    """A matching whose costs are being copied to the CPU; the device can work meanwhile."""

    cost: Float[Tensor, "L B Q T"]
    target_counts: tuple[int, ...]  # per image
    device: torch.device
    copied: torch.cuda.Event | None  # None if `cost` is on the CPU already
    query_groups: int = 1

    def assignments(self) -> list[Assignment]:
        """Wait for the costs and return one Assignment per layer, on the device; see `match`."""
        layers = self.cost.shape[0]
        if self.copied is not None:
            self.copied.synchronize()
        cost = self.cost.numpy()
        first = np.cumsum([0, *self.target_counts[:-1]])
        size = max(cost.shape[2] // self.query_groups, 1)
        image: list[np.ndarray] = []
        query: list[np.ndarray] = []
        target: list[np.ndarray] = []
        for layer in range(layers):
            for index, count in enumerate(self.target_counts):
                for start in range(0, cost.shape[2], size):
                    group = cost[layer, index, start : start + size, :count]
                    row, column = linear_sum_assignment(group)
                    image.append(np.full_like(row, index))
                    query.append(row + start)
                    target.append(column + first[index])
        flat = torch.from_numpy(
            np.stack([np.concatenate(part) for part in (image, query, target)]).astype(np.int64)
        )
        per_layer = flat.to(self.device, non_blocking=True).view(3, layers, -1)
        return [Assignment(*per_layer[:, layer]) for layer in range(layers)]


def union_of(assignments: Sequence[Assignment], queries: int, targets: int) -> Assignment:
    """Return all pairs of several matchings of the same queries, sorted by image, then query.

    A query that has different targets among them keeps the most frequent one, and of equally
    frequent ones the first. Several queries may keep the same target. Source: the "union set" of
    D-FINE's published training. `targets` are those of all images.
    """
    image = torch.cat([each.image for each in assignments])
    query = torch.cat([each.query for each in assignments])
    target = torch.cat([each.target for each in assignments])
    pair, count = torch.unique(
        (image * queries + query) * max(targets, 1) + target, return_counts=True
    )
    place = pair // max(targets, 1)  # sorted, as pairs are
    falling = torch.argsort(count, descending=True, stable=True)
    by_place = falling[torch.argsort(place[falling], stable=True)]
    ordered = place[by_place]
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    kept = pair[by_place[is_first]]
    place = kept // max(targets, 1)
    return Assignment(place // queries, place % queries, kept % max(targets, 1))


def pairwise_cost(
    logits: Float[Tensor, "L B Q C"],
    cxcywh: Float[Tensor, "L B Q 4"],
    targets: Sequence[Target],
    class_loss: ClassificationLoss,
    costs: MatchCosts,
) -> Float[Tensor, "L B Q T"]:
    """Return the matching cost of every query and target of an image, in float32.

    T is the largest number of targets in an image. Columns beyond an image's own are padding.
    """
    with torch.autocast(logits.device.type, enabled=False):
        class_indices: Int[Tensor, "B T"] = pad_sequence(
            [t.classes for t in targets], batch_first=True
        )
        boxes: Float[Tensor, "B T 4"] = pad_sequence([t.cxcywh for t in targets], batch_first=True)
        cost = costs.class_ * class_loss.cost(logits.float(), class_indices)
        predicted, target = cxcywh.float()[:, :, :, None], boxes[None, :, None]
        # One coordinate at a time: an (L, B, Q, T, 4) temporary would cost four times more.
        pairs = zip(predicted.unbind(-1), target.movedim(-1, 0).contiguous(), strict=True)
        for predicted_coordinate, target_coordinate in pairs:
            cost.add_((predicted_coordinate - target_coordinate).abs_(), alpha=costs.l1)
        predicted_xyxy, target_xyxy = cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target)
        cost.sub_(generalized_iou(predicted_xyxy, target_xyxy), alpha=costs.giou)
        if costs.quality:
            of_targets = class_indices[None, :, None].expand_as(cost)
            score = class_loss.probabilities(logits.float()).gather(-1, of_targets)
            iou = intersection_over_union(predicted_xyxy, target_xyxy)
            cost.sub_(score * iou**IOU_POWER, alpha=costs.quality)
        return cost
