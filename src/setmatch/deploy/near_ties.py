"""Predictions of a model for an image as it may be rounded: what near ties among scores decide.

A model that chooses queries by score gives two tokens each other's place where their scores are
closer than float32 rounds. Another engine, or another order of the same operations, breaks such a
tie the other way, and every detection may move with it.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.inference.engines.eager import EagerEngine
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import Predictions

ROUNDINGS = 12
_STEP = 2.0**-23  # of float32


def roundings(
    eager: EagerEngine, pixels: Float[Tensor, "3 H W"], size_px: tuple[int, int]
) -> Iterator[Predictions]:
    """Yield what a model predicts for copies of an image whose pixels differ by rounding."""
    for seed in range(ROUNDINGS):
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
        batch = Batch.from_images([pixels * (1 + _STEP * noise)])
        predictions = eager.detect(batch, [size_px]).predictions
        assert predictions is not None, "detection transformers return their predictions"
        yield predictions
