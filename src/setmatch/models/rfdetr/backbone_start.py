"""Where the backbone of RF-DETR-B starts from: DINOv2, which other sizes do not fit."""

from setmatch.models.rfdetr.key_map import PUBLISHED_NAMES, VIT
from setmatch.models.weights.backbone_start import BackboneStart
from setmatch.models.weights.downloads.download import PublishedRepository, fetch_published
from setmatch.models.weights.layouts.key_map import State, from_layout, known
from setmatch.models.weights.raw_checkpoint import read_hub_folder
from setmatch.models.weights.terms import show_license_once

DINOV2 = PublishedRepository("facebook/dinov2-small", None, "Apache-2.0")


def read_dinov2() -> State:
    """Download and read the weights; raises WeightsError as `fetch_published` does."""
    folder = fetch_published("the backbone of rfdetr_b", DINOV2)
    show_license_once(DINOV2.repository, DINOV2.license)
    raw = read_hub_folder(folder, DINOV2.repository)
    state = {f"{VIT}.{key}": value for key, value in raw.state.items()}
    return from_layout(known(state, PUBLISHED_NAMES), PUBLISHED_NAMES)


STARTS = {"rfdetr_b": BackboneStart(DINOV2.repository, read_dinov2)}
