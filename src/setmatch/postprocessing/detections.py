"""Decoding of predictions into boxes and instance masks."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from setmatch.losses.classification import ClassificationLoss
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.ops.mask_resize import resize_masks
from setmatch.structures.batch import require_sizes
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
    """Return the detections of one decoder layer for each image, by descending score.

    `sizes_px` holds the (height, width) of each original image. Boxes are in pixels of that image,
    float32, on the CPU and not clipped. There is no threshold and no non-maximum suppression
    (arXiv 2005.12872, section 3). Equal scores keep the order of the queries. Raises ConfigError
    for sizes that are not one (height, width) for each image.
    """
    cxcywh = predictions.cxcywh[layer].float()
    require_sizes(sizes_px, cxcywh.shape[0])
    decoded = class_loss.decode(predictions.logits[layer].float())
    score, order = decoded.score.sort(dim=1, descending=True, stable=True)
    class_index = decoded.class_index.gather(1, order)
    query = decoded.query.gather(1, order)
    xyxy_px = _to_pixels(cxcywh, query, sizes_px)
    # One copy from the device per tensor, not one per image.
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
    """Return the detections with a score above `threshold`, with their masks.

    A mask is True where its logit is positive. As published, logits are resized to the model's
    input size `seen_px` (height, width; without padding), then to the original size.
    """
    assert predictions.masks is not None, "instance masks need a model with a mask head"
    per_image = detections(predictions, class_loss, categories, sizes_px)
    decoded = class_loss.decode(predictions.logits[-1].float())
    order = decoded.score.sort(dim=1, descending=True, stable=True).indices
    query = decoded.query.gather(1, order)
    with_masks = []
    for image, each in enumerate(per_image):
        count = int((each.scores > threshold).sum())  # the first ones, as scores descend
        masks = predictions.masks[image][query[image, :count]]
        packed = [
            PackedMasks.pack(logits > 0).bits
            for _, logits in resize_masks(masks, seen_px, each.size_px, "torch")
        ]
        bits = PackedMasks(torch.cat(packed, dim=1).cpu(), each.size_px[1])
        with_masks.append(replace(each.above(threshold), masks=bits))
    return with_masks


def _to_pixels(
    cxcywh: Float[Tensor, "B Q 4"], query: Int[Tensor, "B K"], sizes_px: Sequence[tuple[int, int]]
) -> Float[Tensor, "B K 4"]:
    chosen = cxcywh.gather(1, query[..., None].expand(-1, -1, 4))
    scale = [(width, height, width, height) for height, width in sizes_px]
    return cxcywh_to_xyxy(chosen) * chosen.new_tensor(scale)[:, None]
