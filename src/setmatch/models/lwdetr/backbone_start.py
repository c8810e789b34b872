"""Where the backbones of LW-DETR start from: trained by CAE v2 on images of Objects365."""

from functools import partial

from setmatch.models.lwdetr.checkpoint import LICENSE, URL
from setmatch.models.lwdetr.key_map import ORIGINAL, POSITION, VIT, unpacked
from setmatch.models.weights.backbone_start import BackboneStart, read_backbone
from setmatch.models.weights.downloads.download import PublishedCheckpoint
from setmatch.models.weights.layouts.key_map import State
from setmatch.models.weights.terms import OBJECTS365

NETWORKS = {"t": "tiny", "s": "tiny", "m": "small", "l": "small", "x": "base"}


def _prepared(state: State) -> State:
    """Return the tensors under the names of LW-DETR's own files, without the class token's place.

    Their file has "encoder." before each name.
    """
    named = {f"{VIT}.{key[len(VIT) + 1 :].replace('encoder.', '')}": v for key, v in state.items()}
    if POSITION in named:
        named[POSITION] = named[POSITION][:, 1:]
    return unpacked(named)


def _start(network: str) -> BackboneStart:
    name = f"caev2_{network}_300e_objects365.pth"
    published = PublishedCheckpoint(f"{URL}{name}", LICENSE, has_hash=False)
    read = partial(read_backbone, published, f"{VIT}.", ORIGINAL, OBJECTS365, _prepared)
    return BackboneStart(name, read)


STARTS = {f"lwdetr_{size}": _start(network) for size, network in NETWORKS.items()}
