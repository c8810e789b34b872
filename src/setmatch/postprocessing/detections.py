"""From what the last decoder layer believes to boxes in pixels of the original image."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from setmatch.losses.classification import ClassificationLoss
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.ops.mask_resize import enlarged
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions
from setmatch.structures.packed_masks import PackedMasks


@torch.no_grad()
def detections(
    predictions: Predictions,
    class_loss: ClassificationLoss,
    categories: Categories,
    sizes_px: Sequence[tuple[int, int]],
    layer: int = -1,
) -> list[Detections]:
    """Answer with every slot of a decoder layer, one `Detections` per image, best first.

    The last layer's is the answer. `sizes_px` are (height, width) of the original images, one per
    image of the batch; boxes come back in their pixels, on the CPU, as float32, and are not
    clipped. No threshold and no suppression of doubles: the set is the answer (arXiv 2005.12872,
    section 3). Equal scores keep the order of the queries.
    """
    cxcywh = predictions.cxcywh[layer].float()
    assert len(sizes_px) == cxcywh.shape[0], "one original size for every image of the batch"
    read = class_loss.decode(predictions.logits[layer].float())
    score, order = read.score.sort(dim=1, descending=True, stable=True)
    class_index = read.class_index.gather(1, order)
    query = read.query.gather(1, order)
    xyxy_px = _to_pixels(cxcywh, query, sizes_px)
    # One copy for each kind of answer, not one for each image.
    score, class_index, xyxy_px = score.cpu(), class_index.cpu(), xyxy_px.cpu()
    return [
        Detections(xyxy_px[image], score[image], class_index[image], categories, size_px)
        for image, size_px in enumerate(sizes_px)
    ]


@torch.no_grad()
def instances(
    predictions: Predictions,
    class_loss: ClassificationLoss,
    categories: Categories,
    seen_px: tuple[int, int],
    sizes_px: Sequence[tuple[int, int]],
    threshold: float = 0.0,
) -> list[Detections]:
    """Answer as `detections`, with the mask of every slot that scores more than `threshold`.

    A mask is where its logit is positive, found in the size in which the model saw the batch,
    nothing padded, (height, width) `seen_px`, and taken from there to the original's, as published.
    """
    assert predictions.masks is not None, "only a model with a mask head has instances"
    found = detections(predictions, class_loss, categories, sizes_px)
    read = class_loss.decode(predictions.logits[-1].float())
    order = read.score.sort(dim=1, descending=True, stable=True).indices
    query = read.query.gather(1, order)
    answers = []
    for image, each in enumerate(found):
        count = int((each.scores > threshold).sum())  # they are the first
        masks = predictions.masks[image][query[image, :count]]
        packed = [
            PackedMasks.pack(logits > 0).bits
            for _, logits in enlarged(masks, seen_px, each.size_px, "torch")
        ]
        bits = PackedMasks(torch.cat(packed, dim=1).cpu(), each.size_px[1])
        answers.append(replace(each.above(threshold), masks=bits))
    return answers


def _to_pixels(
    cxcywh: Float[Tensor, "B Q 4"], query: Int[Tensor, "B K"], sizes_px: Sequence[tuple[int, int]]
) -> Float[Tensor, "B K 4"]:
    chosen = cxcywh.gather(1, query[..., None].expand(-1, -1, 4))
    scale = [(width, height, width, height) for height, width in sizes_px]
    return cxcywh_to_xyxy(chosen) * chosen.new_tensor(scale)[:, None]
