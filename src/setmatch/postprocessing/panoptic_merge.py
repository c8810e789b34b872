"""From masks that overlap to one answer for every pixel, as the published code merges them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from setmatch.losses.classification import ClassificationLoss
from setmatch.ops.mask_resize import enlarged
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions
from setmatch.structures.segments import Segments

_LEAST_PX = 5  # of a segment
_NEAR = 3e-7  # logits nearer than this may have equal probabilities in float32


@torch.no_grad()
def panoptic_segments(
    predictions: Predictions,
    class_loss: ClassificationLoss,
    categories: Categories,
    seen_px: tuple[int, int],
    sizes_px: Sequence[tuple[int, int]],
    threshold: float | None = None,
) -> list[Segments]:
    """Merge the masks of the last layer, one `Segments` per image, on the CPU.

    Of the slots that score more than `threshold` (default: the scoring's own, 0.85 as published for
    a softmax) and are no "no object", each pixel takes the one
    with the greatest logit; pieces of the same stuff become one; segments of fewer than five pixels
    are dropped and the pixels given anew to what is left, until nothing more is dropped. That is
    the published merge, pixel for pixel, in which dropping anything drops also all pieces of stuff
    but the first (arXiv 2005.12872, section 4.5, and its code). Where the scoring has a
    `overlap_threshold`, each pixel takes the one with the greatest score times probability of its
    mask,
    and things that keep less of their mask than that are dropped (as arXiv 2112.01527 merges).
    `seen_px` is the (height, width) in which the model saw all images of the batch, nothing padded,
    `sizes_px` those of the originals.
    """
    assert predictions.masks is not None, "only a model with a mask head has segments"
    assert len(sizes_px) == len(predictions.masks), "one original size for every image of the batch"
    read = class_loss.decode(predictions.logits[-1].float())
    least = class_loss.panoptic_threshold if threshold is None else threshold
    kept = (read.score > least) & (read.score >= read.no_object_prob)
    answers = []
    for image, size_px in enumerate(sizes_px):
        keep = kept[image]
        class_indices, scores = read.class_index[image][keep], read.score[image][keep]
        masks = predictions.masks[image][read.query[image][keep]]
        if class_loss.overlap_threshold > 0:
            claims = _Claims(masks, class_indices, scores, seen_px, size_px)
            number, left = _claimed(claims, categories, class_loss.overlap_threshold)
        else:
            number, left = _merged(masks, class_indices, categories, seen_px, size_px)
        answers.append(
            Segments(number.int().cpu(), class_indices[left].cpu(), scores[left].cpu(), categories)
        )
    return answers


def _merged(
    masks: Float[Tensor, "K h w"],
    class_indices: Int64[Tensor, " K"],
    categories: Categories,
    seen_px: tuple[int, int],
    size_px: tuple[int, int],
) -> tuple[Int64[Tensor, "H W"], Int64[Tensor, " S"]]:
    """Return every pixel's segment, counted from 1, and the masks that the segments are of."""
    left = torch.arange(len(masks), device=masks.device)
    if not len(left):
        return left.new_zeros(size_px), left
    winner = _first_of_a_kind(class_indices, categories)[_winners(masks, seen_px, size_px)]
    while True:
        enough = winner.flatten().bincount(minlength=len(left)) >= _LEAST_PX
        if enough.all():
            return winner + 1, left
        left = left[enough]
        if not len(left):
            return left.new_zeros(size_px), left
        winner = _winners(masks[left], seen_px, size_px)


@dataclass(frozen=True)
class _Claims:
    """The masks of one image that ask for its pixels."""

    masks: Float[Tensor, "K h w"]
    class_indices: Int64[Tensor, " K"]
    scores: Float[Tensor, " K"]
    seen_px: tuple[int, int]
    size_px: tuple[int, int]


def _claimed(
    claims: _Claims, categories: Categories, overlap_threshold: float
) -> tuple[Int64[Tensor, "H W"], Int64[Tensor, " S"]]:
    """Return as `_merged` does, but pixels go to the likeliest, and doubles of a thing vanish."""
    class_indices = claims.class_indices
    stuff = torch.isin(class_indices, class_indices.new_tensor(sorted(categories.stuff)))
    left = torch.arange(len(class_indices), device=class_indices.device)
    while len(left):
        winner, whole, kept = _likeliest(claims, left)
        area = winner.flatten().bincount(minlength=len(left))
        enough = (area >= _LEAST_PX) & (stuff[left] | (kept >= overlap_threshold * whole))
        if enough.all():
            first = _first_of_a_kind(class_indices[left], categories)
            used, number = torch.unique(first[winner], return_inverse=True)
            return number + 1, left[used]
        left = left[enough]
    return left.new_zeros(claims.size_px), left


def _likeliest(
    claims: _Claims, left: Int64[Tensor, " S"]
) -> tuple[Int64[Tensor, "H W"], Int64[Tensor, " S"], Int64[Tensor, " S"]]:
    """Return whose every pixel is, how many pixels each mask has, and how many of them it gets."""
    numbers = torch.arange(len(left), device=left.device)[:, None, None]
    winner = left.new_empty(claims.size_px)
    whole, kept = left.new_zeros(2, len(left))
    for rows, logits in enlarged(claims.masks[left], claims.seen_px, claims.size_px, "pillow"):
        winner[rows] = (logits.sigmoid() * claims.scores[left, None, None]).argmax(dim=0)
        inside = logits > 0
        whole += inside.sum((1, 2))
        kept += (inside & (winner[rows] == numbers)).sum((1, 2))
    return winner, whole, kept


def _winners(
    masks: Float[Tensor, "K h w"], seen_px: tuple[int, int], size_px: tuple[int, int]
) -> Int64[Tensor, "H W"]:
    """Return which mask is the most probable at every pixel of the original, the first of equals.

    Finding the maximum, and then who has it, is many times as fast as argmax, which PyTorch does
    not vectorize across masks. A softmax changes no order, but in float32 it makes equal what was
    not: only where masks are that near each other is it taken, as it is in the published code.
    """
    count = len(masks)
    numbers = torch.arange(count, dtype=torch.float32, device=masks.device)[:, None, None]
    winner = numbers.new_empty(size_px, dtype=torch.int64)
    for rows, logits in enlarged(masks, seen_px, size_px, "pillow"):
        near = torch.where(logits >= logits.amax(dim=0) - _NEAR, numbers, count)
        first = near.amin(dim=0)
        winner[rows] = first.long()
        several = near.sum(dim=0) != first + (count - 1) * count
        if several.any():
            probabilities = logits[:, several].T.softmax(dim=-1)
            winner[rows][several] = probabilities.argmax(dim=-1)
    return winner


def _first_of_a_kind(
    class_indices: Int64[Tensor, " K"], categories: Categories
) -> Int64[Tensor, " K"]:
    """Return for each mask the first of the same stuff, and for a thing itself."""
    stuff = torch.tensor(
        sorted(categories.stuff), dtype=class_indices.dtype, device=class_indices.device
    )
    earliest = (class_indices[:, None] == class_indices).int().argmax(dim=1)
    own = torch.arange(len(class_indices), device=class_indices.device)
    return torch.where(torch.isin(class_indices, stuff), earliest, own)
