"""Hungarian matching: every target gets the one query that answers for it most cheaply."""

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
from setmatch.ops.boxes import cxcywh_to_xyxy, generalized_iou
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment

INVALID_COST = (
    1e6  # the cost of a pair whose cost is not a number: far above any real one, still finite
)


@torch.no_grad()
def match(
    logits: Float[Tensor, "L B Q C"],
    cxcywh: Float[Tensor, "L B Q 4"],
    targets: Sequence[Target],
    class_loss: ClassificationLoss,
    costs: MatchCosts,
) -> list[Assignment]:
    """Match every decoder layer at once; one transfer to the CPU, where SciPy solves each image.

    Returns one Assignment per layer, sorted by image, then query. An image with more targets than
    queries leaves the dearest targets unmatched. Values that are not finite are matched last
    instead of raising, so that one broken image cannot end a run (arXiv 2005.12872, eq. 1).
    """
    return start_matching(logits, cxcywh, targets, class_loss, costs).assignments()


@torch.no_grad()
def start_matching(
    logits: Float[Tensor, "L B Q C"],
    cxcywh: Float[Tensor, "L B Q 4"],
    targets: Sequence[Target],
    class_loss: ClassificationLoss,
    costs: MatchCosts,
) -> "PendingMatch":
    """Send the costs on their way to the CPU; until its assignments are asked for, none waits."""
    counts = tuple(len(target) for target in targets)
    if sum(counts) == 0:
        return PendingMatch(torch.empty(*logits.shape[:3], 0), counts, logits.device, None)
    pairs = pairwise_cost(logits, cxcywh, targets, class_loss, costs)
    pairs.nan_to_num_(nan=INVALID_COST, posinf=INVALID_COST, neginf=-INVALID_COST)
    on_host = pairs.to("cpu", non_blocking=pairs.is_cuda)
    arrived = None
    if pairs.is_cuda:
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(pairs.device))
    return PendingMatch(on_host, counts, logits.device, arrived)


@dataclass(frozen=True)
class PendingMatch:
    """A matching under way: `cost` is on the CPU as soon as it has `arrived` (None: it is there).

    What the device is given to do in the meantime costs no time.
    """

    cost: Float[Tensor, "L B Q T"]
    counts: tuple[int, ...]  # of every image's targets
    device: torch.device
    arrived: torch.cuda.Event | None

    def assignments(self) -> list[Assignment]:
        """Return one Assignment per layer, on the device; see `match`."""
        layers = self.cost.shape[0]
        if self.arrived is not None:
            self.arrived.synchronize()
        cost = self.cost.numpy()
        first = np.cumsum([0, *self.counts[:-1]])
        image: list[np.ndarray] = []
        query: list[np.ndarray] = []
        target: list[np.ndarray] = []
        for layer in range(layers):
            for index, count in enumerate(self.counts):
                row, column = linear_sum_assignment(cost[layer, index, :, :count])
                image.append(np.full_like(row, index))
                query.append(row)
                target.append(column + first[index])
        flat = torch.from_numpy(
            np.stack([np.concatenate(part) for part in (image, query, target)]).astype(np.int64)
        )
        per_layer = flat.to(self.device, non_blocking=True).view(3, layers, -1)
        return [Assignment(*per_layer[:, layer]) for layer in range(layers)]


def pairwise_cost(
    logits: Float[Tensor, "L B Q C"],
    cxcywh: Float[Tensor, "L B Q 4"],
    targets: Sequence[Target],
    class_loss: ClassificationLoss,
    costs: MatchCosts,
) -> Float[Tensor, "L B Q T"]:
    """Return the cost of every query for every target of its own image, in float32.

    T is the largest number of targets in an image; columns past an image's own are meaningless.
    """
    with torch.autocast(logits.device.type, enabled=False):
        class_indices: Int[Tensor, "B T"] = pad_sequence(
            [t.classes for t in targets], batch_first=True
        )
        boxes: Float[Tensor, "B T 4"] = pad_sequence([t.cxcywh for t in targets], batch_first=True)
        cost = costs.class_ * class_loss.cost(logits.float(), class_indices)
        ours, theirs = cxcywh.float()[:, :, :, None], boxes[None, :, None]
        # One coordinate after the other: an (L, B, Q, T, 4) temporary would cost four times more.
        for our, their in zip(ours.unbind(-1), theirs.movedim(-1, 0).contiguous(), strict=True):
            cost.add_((our - their).abs_(), alpha=costs.l1)
        overlap = generalized_iou(cxcywh_to_xyxy(ours), cxcywh_to_xyxy(theirs))
        return cost.sub_(overlap, alpha=costs.giou)
