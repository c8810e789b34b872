"""Named torchvision baselines, one function each."""

from typing import Any

import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from setmatch.models.detector import Detector
from setmatch.models.family import by_name
from setmatch.models.torchvision.config import (
    BaselineShape,
    BatchNorm,
    FrozenPyramidShape,
    PyramidShape,
)
from setmatch.models.torchvision.model import TorchvisionDetector

LEVELS = 5  # of torchvision's feature pyramid
RATIOS = (0.5, 1.0, 2.0)
STRIDE_PX = 32  # the coarsest stride of a ResNet

NORMS: dict[BatchNorm, type[nn.Module]] = {"frozen": FrozenBatchNorm2d, "live": nn.BatchNorm2d}
# As torchvision chooses with and without weights.
TRAINED_STAGES: dict[BatchNorm, int] = {"frozen": 3, "live": 5}


def fasterrcnn_r50_fpn(
    num_classes: int, shape: FrozenPyramidShape = FrozenPyramidShape()
) -> Detector:
    """Baseline: torchvision's Faster R-CNN on ResNet-50 with a feature pyramid."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=NORMS[shape.batch_norm],
        trainable_layers=TRAINED_STAGES[shape.batch_norm],
    )
    network = detection.FasterRCNN(
        backbone, num_classes + 1, box_detections_per_img=shape.num_detections
    )
    return _on_pyramid(network, shape)


def fasterrcnn_r50_fpn_v2(num_classes: int, shape: PyramidShape = PyramidShape()) -> Detector:
    """Baseline: torchvision's improved Faster R-CNN (arXiv 2111.11429), every layer trained."""
    network = detection.fasterrcnn_resnet50_fpn_v2(
        weights=None,
        weights_backbone=None,
        num_classes=num_classes + 1,
        box_detections_per_img=shape.num_detections,
    )
    return _on_pyramid(network, shape)


def ssdlite_mobilenet_v3(num_classes: int, shape: BaselineShape = BaselineShape(300)) -> Detector:
    """Baseline: torchvision's SSDLite on MobileNetV3, for images of any shape."""
    network = detection.ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        num_classes=num_classes + 1,
        detections_per_img=shape.num_detections,
    )
    with torch.device("cpu"):  # its tensors are not buffers and do not follow the model
        network.anchor_generator = DefaultBoxGenerator(
            [[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95
        )
    return TorchvisionDetector(network, shape.num_detections, multiple_px=1)


def _on_pyramid(network: Any, shape: PyramidShape) -> Detector:
    network.backbone.name = "resnet50"
    sides = tuple((shape.smallest_anchor_px * 2**level,) for level in range(LEVELS))
    with torch.device("cpu"):  # its tensors are not buffers and do not follow the model
        network.rpn.anchor_generator = AnchorGenerator(sides, (RATIOS,) * LEVELS)
    return TorchvisionDetector(network, shape.num_detections, STRIDE_PX)


PRESETS = by_name(fasterrcnn_r50_fpn, fasterrcnn_r50_fpn_v2, ssdlite_mobilenet_v3)
