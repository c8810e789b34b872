"""The data of an explanation: an image, its detections, and the attention behind them."""

from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from setmatch.explanation.shown_scores import ShownScores
from setmatch.structures.attention import AttentionTrace
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import ModelCard


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """The detections of one image, the object query of each, and the attention of all queries.

    `detections` are all detections, best first. Pages and figures show those that score more than
    `threshold`, or more than that of their class. `queries` holds the query of each detection.
    """

    name: str
    image: UInt8[Tensor, "3 H W"]
    card: ModelCard
    trace: AttentionTrace
    detections: Detections
    queries: Int[Tensor, " N"]
    threshold: ShownScores

    def shown(self, detections: Detections) -> Detections:
        """Return those detections that score more than the threshold."""
        least = self.threshold
        return detections.above(torch.tensor(least) if isinstance(least, tuple) else least)
