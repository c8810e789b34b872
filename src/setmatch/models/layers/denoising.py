"""Denoising: queries made from the targets, spoilt, that learn to mend a box or to reject it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from setmatch.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment

MOST = 100  # targets of an image that are spoilt: each costs two queries that all look at all


@dataclass(frozen=True)
class DenoisingQueries:
    """Spoilt targets as queries: `groups` times a positive and a negative of each.

    `real` is False where an image has fewer targets than the fullest of its batch. `assignment`
    says which target each positive is to become.
    """

    content: Float[Tensor, "B Q D"]
    cxcywh: Float[Tensor, "B Q 4"]
    real: Bool[Tensor, "B Q"]
    together: Bool[Tensor, "Q Q"]  # True: of one group, so that they may look at each other
    groups: int
    assignment: Assignment


class Denoising(nn.Module):
    """Contrastive denoising (arXiv 2203.03605, section 3.3, after arXiv 2203.01305).

    A positive's corners move by less than half of `box_noise` box sides and it must find back; a
    negative's move by more and it must answer "nothing". A share of the labels is drawn by chance.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        queries: int = 100,
        label_noise: float = 0.2,
        box_noise: float = 0.8,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.queries = queries
        self.label_noise = label_noise
        self.box_noise = box_noise
        self.embedding = nn.Embedding(num_classes + 1, dim)  # the last: no target at all

    def forward(
        self, targets: Sequence[Target], valid_ratio: Float[Tensor, "B 2"]
    ) -> DenoisingQueries:
        """Return about `queries` spoilt queries per image, or one positive and negative each.

        There is no query at all where no image has a target. Of more than MOST targets in an
        image, so many are chosen by chance. Boxes come back as fractions of the canvas, of which
        each image covers `valid_ratio`.
        """
        rows = [_some(len(target)) for target in targets]
        counts = [len(chosen) for chosen in rows]
        most = max(max(counts), 1)
        groups = max(1, self.queries // (2 * most))
        kept = [_only(target, chosen) for target, chosen in zip(targets, rows, strict=True)]
        class_indices = pad_sequence([target.classes for target in kept], True, self.num_classes)
        boxes = pad_sequence([target.cxcywh for target in kept], True, 0.5)
        real = (class_indices < self.num_classes).repeat(1, 2 * groups)
        class_indices, boxes = class_indices.repeat(1, 2 * groups), boxes.repeat(1, 2 * groups, 1)
        place = torch.arange(class_indices.shape[1], device=class_indices.device)
        negative = (place // most) % 2 == 1
        boxes = self._move(boxes, negative) * torch.cat([valid_ratio, valid_ratio], dim=1)[:, None]
        group = place // (2 * most)
        return DenoisingQueries(
            self.embedding(self._guessed(class_indices, real)),
            torch.where(real[..., None], boxes, 0.5),
            real,
            group[:, None] == group[None],
            groups,
            _assignment(
                rows, [len(target) for target in targets], groups, most, class_indices.device
            ),
        )

    def _guessed(
        self, class_indices: Int[Tensor, "B Q"], real: Bool[Tensor, "B Q"]
    ) -> Int[Tensor, "B Q"]:
        guessed = (
            torch.rand(class_indices.shape, device=class_indices.device) < self.label_noise
        ) & real
        return torch.where(
            guessed, torch.randint_like(class_indices, self.num_classes), class_indices
        )

    def _move(
        self, cxcywh: Float[Tensor, "B Q 4"], negative: Bool[Tensor, " Q"]
    ) -> Float[Tensor, "B Q 4"]:
        sign = torch.randint_like(cxcywh, 2) * 2 - 1
        share = torch.rand_like(cxcywh) + negative[:, None]
        half = cxcywh[..., 2:].repeat(1, 1, 2) / 2
        moved = cxcywh_to_xyxy(cxcywh) + sign * share * half * self.box_noise
        low, high = moved.clamp(0, 1).chunk(2, dim=-1)
        turned = torch.cat([torch.minimum(low, high), torch.maximum(low, high)], dim=-1)
        spoilt = xyxy_to_cxcywh(turned)
        return torch.cat([spoilt[..., :2], spoilt[..., 2:].clamp(min=0.01)], dim=-1)


def _some(count: int) -> Int[Tensor, " M"]:
    """Return which of an image's `count` targets are spoilt: all, or MOST of them in order."""
    if count <= MOST:
        return torch.arange(count)
    return torch.randperm(count)[:MOST].sort().values


def _only(target: Target, chosen: Int[Tensor, " M"]) -> Target:
    if len(chosen) == len(target):  # nearly always, and without a transfer
        return target
    chosen = chosen.to(target.classes.device)
    return Target(target.classes[chosen], target.cxcywh[chosen])


def _assignment(
    rows: Sequence[Int[Tensor, " _"]],
    counts: Sequence[int],
    groups: int,
    most: int,
    device: torch.device,
) -> Assignment:
    """Pair each positive with its target, group by group; `counts` are those of all targets.

    All is known on the host, so that no accelerator has to be waited for.
    """
    first = [sum(counts[:image]) for image in range(len(counts))]
    target = torch.cat([start + chosen for start, chosen in zip(first, rows, strict=True)])
    within = torch.cat([torch.arange(len(chosen)) for chosen in rows])
    sizes = torch.tensor([len(chosen) for chosen in rows])
    image = torch.arange(len(rows)).repeat_interleave(sizes)
    start = torch.arange(groups)[:, None] * 2 * most
    flat = torch.stack([image.repeat(groups), (start + within).flatten(), target.repeat(groups)])
    return Assignment(*flat.to(device, non_blocking=True))
