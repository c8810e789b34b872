"""Denoising: noised targets as extra queries, trained to recover the box or to reject it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment

MAX_TARGETS = 100  # per image: each costs two queries in self-attention


@dataclass(frozen=True)
class DenoisingQueries:
    """Noised targets as queries: in each of `groups`, a positive and a negative of every target.

    `real` is False for padding, in images with fewer targets than the fullest of the batch.
    `assignment` pairs each positive with its target.
    """

    content: Float[Tensor, "B Q D"]
    cxcywh: Float[Tensor, "B Q 4"]
    real: Bool[Tensor, "B Q"]
    same_group: Bool[Tensor, "Q Q"]  # True: the queries may attend to each other
    groups: int
    assignment: Assignment


class Denoising(nn.Module):
    """Contrastive denoising (arXiv 2203.03605, section 3.3, after arXiv 2203.01305).

    The corners of a positive move by less than half of `box_noise` box sides, and it is trained to
    recover the target; those of a negative move further, and it is trained as "no object". A
    fraction `label_noise` of the class labels is random.
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
        self.embedding = nn.Embedding(num_classes + 1, dim)  # the last one is padding

    def forward(self, targets: Sequence[Target]) -> DenoisingQueries:
        """Return about `queries` denoising queries per image, or one group if that is more.

        There are none if no image has a target. An image with more than MAX_TARGETS targets uses a
        random subset.
        """
        rows = [_choose(len(target)) for target in targets]
        counts = [len(chosen) for chosen in rows]
        most = max(max(counts), 1)
        groups = max(1, self.queries // (2 * most))
        used = [_subset(target, chosen) for target, chosen in zip(targets, rows, strict=True)]
        class_indices = pad_sequence([target.classes for target in used], True, self.num_classes)
        boxes = pad_sequence([target.cxcywh for target in used], True, 0.5)
        real = (class_indices < self.num_classes).repeat(1, 2 * groups)
        class_indices, boxes = class_indices.repeat(1, 2 * groups), boxes.repeat(1, 2 * groups, 1)
        position = torch.arange(class_indices.shape[1], device=class_indices.device)
        negative = (position // most) % 2 == 1
        boxes = self._noise_boxes(boxes, negative)
        group = position // (2 * most)
        return DenoisingQueries(
            self.embedding(self._noise_labels(class_indices, real)),
            torch.where(real[..., None], boxes, 0.5),
            real,
            group[:, None] == group[None],
            groups,
            _assignment(
                rows, [len(target) for target in targets], groups, most, class_indices.device
            ),
        )

    def _noise_labels(
        self, class_indices: Int[Tensor, "B Q"], real: Bool[Tensor, "B Q"]
    ) -> Int[Tensor, "B Q"]:
        random_label = (
            torch.rand(class_indices.shape, device=class_indices.device) < self.label_noise
        ) & real
        return torch.where(
            random_label, torch.randint_like(class_indices, self.num_classes), class_indices
        )

    def _noise_boxes(
        self, cxcywh: Float[Tensor, "B Q 4"], negative: Bool[Tensor, " Q"]
    ) -> Float[Tensor, "B Q 4"]:
        sign = torch.randint_like(cxcywh, 2) * 2 - 1
        magnitude = torch.rand_like(cxcywh) + negative[:, None]
        half = cxcywh[..., 2:].repeat(1, 1, 2) / 2
        moved = cxcywh_to_xyxy(cxcywh) + sign * magnitude * half * self.box_noise
        low, high = moved.clamp(0, 1).chunk(2, dim=-1)
        ordered = torch.cat([torch.minimum(low, high), torch.maximum(low, high)], dim=-1)
        noised = xyxy_to_cxcywh(ordered)
        return torch.cat([noised[..., :2], noised[..., 2:].clamp(min=0.01)], dim=-1)


def rtdetr_denoising(
    num_classes: int, dim: int, queries: int, label_noise: float, box_noise: float
) -> Denoising:
    """Return the denoising of RT-DETR's published code and of its descendants.

    There, `queries` counts positives alone, half of `label_noise` is the fraction of random labels,
    and the content of padding stays zero.
    """
    denoising = Denoising(num_classes, dim, 2 * queries, label_noise / 2, box_noise)
    denoising.embedding = nn.Embedding(num_classes + 1, dim, padding_idx=num_classes)
    return denoising


def denoising_attn_mask(
    noised: DenoisingQueries, query_mask: QueryAttentionMask
) -> QueryAttentionMask:
    """Put the denoising queries first: only their own group may see them, or targets would leak."""
    extra, queries = len(noised.same_group), len(query_mask.ranks_before)
    attn_mask = noised.same_group.new_ones(extra + queries, extra + queries)
    attn_mask[:extra, :extra] = noised.same_group
    attn_mask[extra:, :extra] = False
    if query_mask.attn_mask is not None:
        visible = query_mask.attn_mask[..., :1, :]  # the same for every query
        attn_mask = attn_mask & F.pad(visible, (extra, 0), value=True)
    return QueryAttentionMask(attn_mask, F.pad(query_mask.ranks_before, (extra, 0, extra, 0)))


def _choose(count: int) -> Int[Tensor, " M"]:
    """Return the indices of the targets to noise: all `count`, or a sorted random subset."""
    if count <= MAX_TARGETS:
        return torch.arange(count)
    return torch.randperm(count)[:MAX_TARGETS].sort().values


def _subset(target: Target, chosen: Int[Tensor, " M"]) -> Target:
    if len(chosen) == len(target):  # nearly always; avoids a transfer
        return target
    chosen = chosen.to(target.classes.device)
    return replace(target, classes=target.classes[chosen], cxcywh=target.cxcywh[chosen], masks=None)


def _assignment(
    rows: Sequence[Int[Tensor, " _"]],
    counts: Sequence[int],
    groups: int,
    most: int,
    device: torch.device,
) -> Assignment:
    """Pair each positive with its target, group by group; `counts` are targets per image.

    Computed on the host, so that no accelerator has to be waited for.
    """
    first = [sum(counts[:image]) for image in range(len(counts))]
    target = torch.cat([start + chosen for start, chosen in zip(first, rows, strict=True)])
    within = torch.cat([torch.arange(len(chosen)) for chosen in rows])
    sizes = torch.tensor([len(chosen) for chosen in rows])
    image = torch.arange(len(rows)).repeat_interleave(sizes)
    start = torch.arange(groups)[:, None] * 2 * most
    flat = torch.stack([image.repeat(groups), (start + within).flatten(), target.repeat(groups)])
    return Assignment(*flat.to(device, non_blocking=True))
