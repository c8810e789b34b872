"""Presets of setmatch_n with one part exchanged.

Parts that are removed are in without.py; each added idea has a file of its own.
"""

import inspect
from collections.abc import Callable

from distribution import distributions, fine_grained
from mosaic import mosaic
from one_to_many import many_beside, many_in_encoder
from setmatch.models.detector import Detector
from setmatch.models.registry import MODELS
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.models.setmatch.presets import setmatch_n
from without import (
    focal,
    learned_queries,
    no_box_refinement,
    no_box_relations,
    no_denoising,
    no_fusion,
    no_local_peaks,
)

Exchange = Callable[[SetMatchDetector, MultiScaleShape], SetMatchDetector]
EXCHANGES: dict[str, Exchange] = {
    f"setmatch_n_{exchange.__name__}": exchange
    for exchange in (
        *(
            focal,
            no_denoising,
            no_box_refinement,
            learned_queries,
            no_local_peaks,
            no_box_relations,
            no_fusion,
        ),
        *(distributions, fine_grained, many_in_encoder, many_beside, mosaic),
    )
}


def register() -> None:
    """Register the presets, so that recipes can name them."""
    default = inspect.signature(setmatch_n).parameters["shape"].default
    for name, exchange in EXCHANGES.items():
        MODELS[name] = _preset(exchange, default)


def _preset(exchange: Exchange, default: MultiScaleShape) -> Callable[..., Detector]:
    def preset(num_classes: int, shape: MultiScaleShape = default) -> Detector:
        detector = setmatch_n(num_classes, shape)
        assert isinstance(detector, SetMatchDetector), "setmatch_n is a SetMatchDetector"
        return exchange(detector, shape)

    return preset
