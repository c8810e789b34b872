"""The engine for arrays, ready for the frames of videos."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from setmatch.inference.arrays.engine import ArrayEngine
from setmatch.inference.arrays.pipeline import ArrayResult, detect_loaded
from setmatch.inference.arrays.preprocess import preprocess
from setmatch.inference.image_batches import LoadedImage
from setmatch.inference.options import PredictOptions


class ArrayFrames:
    """An exported file that is ready for the frames of videos, without torch."""

    def __init__(self, engine: ArrayEngine, options: PredictOptions, tracked: bool = False) -> None:
        self._engine, self._options = engine, options

    def load(self, number: int, pixels: UInt8[np.ndarray, "H W 3"]) -> LoadedImage[np.ndarray]:
        """Return a frame as the network takes it."""
        return LoadedImage(number, pixels, preprocess(pixels, self._engine.card.preprocessing))

    def detect(self, images: Sequence[LoadedImage[np.ndarray]]) -> list[ArrayResult]:
        """Return the detections in frames of one shape."""
        return [result for _, result in detect_loaded(self._engine, images, self._options)]
