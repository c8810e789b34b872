"""COCO weights of the baselines, as torchvision publishes them."""

from typing import Any

from torch import Tensor
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)

from setmatch.models.weights.classes.coco import COCO_NAMES
from setmatch.models.weights.downloads.download import fetch_torchvision
from setmatch.models.weights.layouts.layout import LoadedWeights
from setmatch.structures.metadata import Categories, ModelCard

WEIGHTS: dict[str, Any] = {
    "fasterrcnn_r50_fpn": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "fasterrcnn_r50_fpn_v2": FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
LABELS = range(1, 91)  # 0 is the background
FROZEN_EPS = 1e-5  # of torchvision's frozen norm; COCO_V1 was trained without it


def read_baseline(name: str) -> LoadedWeights:
    """Download and read the published weights of a baseline.

    Raises WeightsError with the file to fetch if there is no network.
    """
    published = WEIGHTS[name]
    state = fetch_torchvision(published, name, "or train it: setmatch train --model " + name)
    names = tuple(COCO_NAMES.get(label) for label in LABELS)
    card = ModelCard(
        name, {}, Categories(tuple(LABELS), names), license="BSD-3-Clause", source=published.url
    )
    tensors = {f"network.{key}": _fold_eps(key, value, state) for key, value in state.items()}
    return LoadedWeights(card, tensors)


def _fold_eps(key: str, value: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Subtract from the variance of a frozen norm the epsilon that torchvision adds to it."""
    frozen = key.removesuffix("running_var") + "num_batches_tracked" not in state
    return value - FROZEN_EPS if key.endswith("running_var") and frozen else value
