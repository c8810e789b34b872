"""Merging of overlapping masks into panoptic segments."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from setmatch.losses.classification import ClassificationLoss
from setmatch.ops.mask_resize import resize_masks
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions
from setmatch.structures.segments import Segments

_MIN_AREA_PX = 5  # of a segment
_LOGIT_TOLERANCE = 3e-7  # closer logits may have equal probabilities in float32


@torch.no_grad()
def panoptic_segments(
    predictions: Predictions,
    class_loss: ClassificationLoss,
    categories: Categories,
    seen_px: tuple[int, int],
    sizes_px: Sequence[tuple[int, int]],
    threshold: float | None = None,
) -> list[Segments]:
    """Merge the masks of the last layer into one `Segments` per image, on the CPU.

    Only queries count that score above `threshold` (default: that of `class_loss`, 0.85 for
    Softmax, as published) and whose best class is not "no object".

    Softmax models use the published merge, pixel for pixel (arXiv 2005.12872, section 4.5, and its
    code). A pixel goes to the mask with the largest logit. All masks of a stuff class give their
    pixels to the first of them. Segments under five pixels, the emptied ones among them, are
    dropped, and all pixels are reassigned until none is dropped.

    If `class_loss` has an `overlap_threshold`, a pixel goes to the mask with the largest score
    times probability, and things that keep a smaller fraction of their mask are dropped (as in
    arXiv 2112.01527).

    `seen_px` is the (height, width) of the model's input without padding, `sizes_px` those of the
    original images.
    """
    assert predictions.masks is not None, "segments need a model with a mask head"
    assert len(sizes_px) == len(predictions.masks), "one size per image of the batch"
    decoded = class_loss.decode(predictions.logits[-1].float())
    minimum = class_loss.panoptic_threshold if threshold is None else threshold
    candidates = (decoded.score > minimum) & (decoded.score >= decoded.no_object_prob)
    merged = []
    for image, size_px in enumerate(sizes_px):
        keep = candidates[image]
        class_indices, scores = decoded.class_index[image][keep], decoded.score[image][keep]
        masks = predictions.masks[image][decoded.query[image][keep]]
        if class_loss.overlap_threshold > 0:
            candidate_masks = _Candidates(masks, class_indices, scores, seen_px, size_px)
            number, left = _merge_by_score(
                candidate_masks, categories, class_loss.overlap_threshold
            )
        else:
            number, left = _merge_as_published(masks, class_indices, categories, seen_px, size_px)
        merged.append(
            Segments(number.int().cpu(), class_indices[left].cpu(), scores[left].cpu(), categories)
        )
    return merged


def _merge_as_published(
    masks: Float[Tensor, "K h w"],
    class_indices: Int64[Tensor, " K"],
    categories: Categories,
    seen_px: tuple[int, int],
    size_px: tuple[int, int],
) -> tuple[Int64[Tensor, "H W"], Int64[Tensor, " S"]]:
    """Return the segment of every pixel, from 1, and the index of each segment's mask."""
    left = torch.arange(len(masks), device=masks.device)
    if not len(left):
        return left.new_zeros(size_px), left
    winner = _first_of_class(class_indices, categories)[_winners(masks, seen_px, size_px)]
    while True:
        enough = winner.flatten().bincount(minlength=len(left)) >= _MIN_AREA_PX
        if enough.all():
            return winner + 1, left
        left = left[enough]
        if not len(left):
            return left.new_zeros(size_px), left
        winner = _winners(masks[left], seen_px, size_px)


@dataclass(frozen=True)
class _Candidates:
    """The masks of one image that compete for its pixels."""

    masks: Float[Tensor, "K h w"]
    class_indices: Int64[Tensor, " K"]
    scores: Float[Tensor, " K"]
    seen_px: tuple[int, int]
    size_px: tuple[int, int]


def _merge_by_score(
    candidates: _Candidates, categories: Categories, overlap_threshold: float
) -> tuple[Int64[Tensor, "H W"], Int64[Tensor, " S"]]:
    """Return the same as `_merge_as_published`, for pixels assigned by score times probability."""
    class_indices = candidates.class_indices
    stuff = torch.isin(class_indices, class_indices.new_tensor(sorted(categories.stuff)))
    left = torch.arange(len(class_indices), device=class_indices.device)
    while len(left):
        winner, mask_px, kept_px = _best_scores(candidates, left)
        area_px = winner.flatten().bincount(minlength=len(left))
        overlaps = stuff[left] | (kept_px >= overlap_threshold * mask_px)
        enough = (area_px >= _MIN_AREA_PX) & overlaps
        if enough.all():
            first = _first_of_class(class_indices[left], categories)
            used, number = torch.unique(first[winner], return_inverse=True)
            return number + 1, left[used]
        left = left[enough]
    return left.new_zeros(candidates.size_px), left


def _best_scores(
    candidates: _Candidates, left: Int64[Tensor, " S"]
) -> tuple[Int64[Tensor, "H W"], Int64[Tensor, " S"], Int64[Tensor, " S"]]:
    """Return the best mask of every pixel, each mask's area, and the part of it that it keeps."""
    numbers = torch.arange(len(left), device=left.device)[:, None, None]
    winner = left.new_empty(candidates.size_px)
    mask_px, kept_px = left.new_zeros(2, len(left))
    masks, seen_px, size_px = candidates.masks[left], candidates.seen_px, candidates.size_px
    for rows, logits in resize_masks(masks, seen_px, size_px, "pillow"):
        winner[rows] = (logits.sigmoid() * candidates.scores[left, None, None]).argmax(dim=0)
        inside = logits > 0
        mask_px += inside.sum((1, 2))
        kept_px += (inside & (winner[rows] == numbers)).sum((1, 2))
    return winner, mask_px, kept_px


def _winners(
    masks: Float[Tensor, "K h w"], seen_px: tuple[int, int], size_px: tuple[int, int]
) -> Int64[Tensor, "H W"]:
    """Return the most probable mask of every pixel of the original image, the first if they tie.

    Computing the maximum and then its index is many times as fast as argmax, which PyTorch does not
    vectorize across masks. The published code applies a softmax first. It keeps the order but can
    make close logits equal in float32, so it is applied where logits are that close.
    """
    count = len(masks)
    numbers = torch.arange(count, dtype=torch.float32, device=masks.device)[:, None, None]
    winner = numbers.new_empty(size_px, dtype=torch.int64)
    for rows, logits in resize_masks(masks, seen_px, size_px, "pillow"):
        near = torch.where(logits >= logits.amax(dim=0) - _LOGIT_TOLERANCE, numbers, count)
        first = near.amin(dim=0)
        winner[rows] = first.long()
        several = near.sum(dim=0) != first + (count - 1) * count
        if several.any():
            probabilities = logits[:, several].T.softmax(dim=-1)
            winner[rows][several] = probabilities.argmax(dim=-1)
    return winner


def _first_of_class(
    class_indices: Int64[Tensor, " K"], categories: Categories
) -> Int64[Tensor, " K"]:
    """Return for each stuff mask the first mask of its class, for each thing its own index."""
    stuff = torch.tensor(
        sorted(categories.stuff), dtype=class_indices.dtype, device=class_indices.device
    )
    earliest = (class_indices[:, None] == class_indices).int().argmax(dim=1)
    own = torch.arange(len(class_indices), device=class_indices.device)
    return torch.where(torch.isin(class_indices, stuff), earliest, own)
