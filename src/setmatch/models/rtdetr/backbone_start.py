"""Where the backbones of RT-DETR and RT-DETRv2 start from, as in their authors' codes."""

from functools import partial

from setmatch.models.rtdetr.key_map import ORIGINAL_EITHER
from setmatch.models.weights.backbone_start import BackboneStart, read_backbone
from setmatch.models.weights.downloads.download import PublishedCheckpoint
from setmatch.models.weights.terms import UNKNOWN

URL = "https://github.com/lyuwenyu/storage/releases/download/v0.1/"
FILES = {
    "r18": "ResNet18_vd_pretrained_from_paddle.pth",
    "r34": "ResNet34_vd_pretrained_from_paddle.pth",
    "r50": "ResNet50_vd_ssld_v2_pretrained_from_paddle.pth",
    "r101": "ResNet101_vd_ssld_pretrained_from_paddle.pth",
}
VARIANTS = {
    **{f"rtdetr_{network}": network for network in FILES},
    **{f"rtdetr_v2_{network}": network for network in FILES},
    "rtdetr_v2_r50_m": "r50",
}


def _start(network: str) -> BackboneStart:
    name = FILES[network]
    published = PublishedCheckpoint(f"{URL}{name}", UNKNOWN, has_hash=False)
    return BackboneStart(name, partial(read_backbone, published, "backbone.", ORIGINAL_EITHER))


STARTS = {preset: _start(network) for preset, network in VARIANTS.items()}
