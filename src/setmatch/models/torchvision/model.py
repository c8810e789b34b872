"""Baselines: torchvision's detectors behind the interface of `Detector`.

They bring their own losses and their own non-maximum suppression.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList

from setmatch.losses.base import Loss
from setmatch.losses.classification import ClassificationLoss
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.class_rows import ClassRows
from setmatch.models.detector import Detector, SizesPx
from setmatch.models.parameter_groups import (
    ParameterGroups,
    split_backbone_params,
    trainable_parameters,
)
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.batch import Batch, Target, require_targets
from setmatch.structures.detections import Detections
from setmatch.structures.outputs import ModelOutput

LEAST_PX = 0.01  # torchvision raises for boxes without area
BOX_PREDICTOR = r"network\.roi_heads\.box_predictor"
SSD_CLASSES = r"network\.head\.classification_head\.module_list\.\d+\.1\.\w+"


@dataclass(frozen=True)
class TorchvisionLosses:
    """The losses that a torchvision model computes itself, for one micro-batch."""

    total: Float[Tensor, ""]
    terms: dict[str, Tensor]


class TorchvisionDetector(Detector):
    """A torchvision detector on batches that are resized and normalized already.

    Its label 0 is the background; label i + 1 is our class index i.
    """

    has_queries = False
    class_rows = (
        ClassRows(re.compile(rf"{BOX_PREDICTOR}\.cls_score\.\w+"), background=1),
        ClassRows(re.compile(rf"{BOX_PREDICTOR}\.bbox_pred\.\w+"), per_class=4, background=1),
        ClassRows(re.compile(SSD_CLASSES), background=1, anchors=6),
    )

    def __init__(self, network: Any, num_detections: int, multiple_px: int) -> None:
        super().__init__()
        self.network = network
        self.network.transform = IdentityTransform(multiple_px)
        self.num_queries = num_detections

    @property
    def default_threshold(self) -> float:
        """The confidence score above which a detection is shown by default."""
        return 0.5

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]  # registered once, in the network
        """The backbone, with whatever torchvision has put on it, such as a feature pyramid."""
        return self.network.backbone

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> Any:
        """Return losses by name in training, else the boxes, scores and labels of each image.

        Raises DataError in training for targets that are missing or of unknown classes.
        """
        sizes_px = batch.sizes_px()
        images = [
            pixels[:, :height, :width]
            for pixels, (height, width) in zip(batch.pixels, sizes_px, strict=True)
        ]
        if not self.training:
            return self.network(images)
        card = getattr(self, "card", None)  # `build` sets it, a preset alone does not
        require_targets(targets, len(images), card and len(card.categories))
        pairs = zip(targets, sizes_px, strict=True)
        return self.network(images, [_in_pixels(target, size_px) for target, size_px in pairs])

    def objective(self, set_loss: Callable[[ClassificationLoss], Loss]) -> Loss:
        """Return the sum of the losses that the network returns."""
        return torchvision_losses

    def detect(self, batch: Batch, sizes_px: SizesPx) -> ModelOutput:
        """Return the network's detections, after its own non-maximum suppression."""
        results = zip(self(batch), batch.sizes_px(), sizes_px, strict=True)
        return ModelOutput([self._detections(*result) for result in results], None)

    def parameter_groups(self) -> ParameterGroups:
        """Return the parameters with the pretrained part of the backbone apart."""
        body = getattr(self.backbone, "body", self.backbone)
        return split_backbone_params({"rest": trainable_parameters(self)}, body)

    def _detections(
        self, result: Mapping[str, Tensor], input_px: tuple[int, int], size_px: tuple[int, int]
    ) -> Detections:
        height, width = (size / size_in for size, size_in in zip(size_px, input_px, strict=True))
        boxes = result["boxes"].float().cpu() * torch.tensor([width, height, width, height])
        class_indices = result["labels"].cpu() - 1
        return Detections(
            boxes, result["scores"].float().cpu(), class_indices, self.card.categories, size_px
        )


class IdentityTransform(nn.Module):
    """Replaces torchvision's resizing and normalization, which are done already: it only pads."""

    def __init__(self, multiple_px: int) -> None:
        super().__init__()
        self.multiple_px = multiple_px

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Pad images into one tensor whose sides are multiples of `multiple_px`."""
        pixels = Batch.from_images(images).pixels
        height, width = pixels.shape[-2:]
        pixels = F.pad(pixels, (0, -width % self.multiple_px, 0, -height % self.multiple_px))
        return ImageList(pixels, [(image.shape[1], image.shape[2]) for image in images]), targets

    def postprocess(
        self, results: list[dict[str, Tensor]], input_px: SizesPx, original_px: SizesPx
    ) -> list[dict[str, Tensor]]:
        """Return the boxes unchanged, in pixels of the network's input."""
        return results


def torchvision_losses(
    outputs: Mapping[str, Tensor], targets: Sequence[Target], normalizer: LossNormalizer, /
) -> TorchvisionLosses:
    """Sum the losses, means over a micro-batch, weighted by its fraction of the images."""
    weight = len(targets) / normalizer.times(1).images
    parts = {name.removeprefix("loss_"): loss.float() * weight for name, loss in outputs.items()}
    total = torch.stack(list(parts.values())).sum()
    detached = {name: part.detach() for name, part in parts.items()}
    return TorchvisionLosses(total, {"loss": total.detach(), **detached})


def _in_pixels(target: Target, size_px: tuple[int, int]) -> dict[str, Tensor]:
    height, width = size_px
    cxcywh = target.cxcywh * target.cxcywh.new_tensor([width, height, width, height])
    sides = cxcywh[:, 2:].clamp(min=LEAST_PX)
    boxes = cxcywh_to_xyxy(torch.cat([cxcywh[:, :2], sides], dim=1))
    return {"boxes": boxes, "labels": target.classes + 1}
