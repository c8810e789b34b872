"""Where the backbones of D-FINE and DEIMv2 start from, as in their authors' codes."""

from functools import partial

from setmatch.models.dfine.key_map import ORIGINAL
from setmatch.models.weights.backbone_start import BackboneStart, read_backbone
from setmatch.models.weights.downloads.download import PublishedCheckpoint
from setmatch.models.weights.terms import UNKNOWN

URL = "https://github.com/Peterande/storage/releases/download/dfinev1.0/"
NETWORKS = {"dfine_n": "B0", "dfine_s": "B0", "dfine_m": "B2", "dfine_l": "B4", "dfine_x": "B5"}


def hgnetv2_start(network: str, is_part: bool = False) -> BackboneStart:
    """Return the ImageNet weights of HGNetV2 "B0" to "B6"."""
    name = f"PPHGNetV2_{network}_stage1.pth"
    published = PublishedCheckpoint(f"{URL}{name}", UNKNOWN, has_hash=False)
    return BackboneStart(name, partial(read_backbone, published, "backbone.", ORIGINAL), is_part)


STARTS = {preset: hgnetv2_start(network) for preset, network in NETWORKS.items()}
