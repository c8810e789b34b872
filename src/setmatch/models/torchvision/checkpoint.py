"""The COCO weights that torchvision publishes for the baselines, in our names."""

from typing import Any

from torch import Tensor
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)

from setmatch.models.weights.download import COCO_NAMES, fetch_torchvision
from setmatch.models.weights.key_map import State
from setmatch.structures.metadata import Categories, ModelCard

BASELINE_WEIGHTS: dict[str, Any] = {
    "fasterrcnn_r50_fpn": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "fasterrcnn_r50_fpn_v2": FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
LABELS = range(1, 91)  # of the network; 0 is the background
FROZEN_EPS = 1e-5  # of torchvision's frozen norm; those of the first published set are without


def read_baseline(name: str) -> tuple[ModelCard, State, list[str]]:
    """Return the card and tensors of a published baseline, downloaded once.

    Raises WeightsError that says what to fetch and where to put it when there is no network.
    """
    published = BASELINE_WEIGHTS[name]
    state = fetch_torchvision(published, name, "or train it: setmatch train --model " + name)
    names = tuple(COCO_NAMES.get(label) for label in LABELS)
    card = ModelCard(
        name, {}, Categories(tuple(LABELS), names), license="BSD-3-Clause", source=published.url
    )
    return card, {f"network.{key}": _fitting(key, value, state) for key, value in state.items()}, []


def _fitting(key: str, value: Tensor, state: State) -> Tensor:
    """Take from the variance of a frozen norm what torchvision would add to it."""
    frozen = key.removesuffix("running_var") + "num_batches_tracked" not in state
    return value - FROZEN_EPS if key.endswith("running_var") and frozen else value
