"""Predictions of a model for an image as it may be rounded: what near ties among scores decide.

A model that chooses queries by score gives two tokens each other's place where their scores are
closer than float32 rounds. Another engine, or another order of the same operations, breaks such a
tie the other way, and every detection may move with it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.deploy.verification.compare_detections import Difference
from setmatch.inference.engines.eager import EagerEngine
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import Predictions

ROUNDINGS = 12
_STEP = 2.0**-23  # of float32


def compared_despite_ties(
    eager: EagerEngine,
    pixels: Float[Tensor, "3 H W"],
    size_px: tuple[int, int],
    compared: Callable[[Predictions], Difference],
    exact: Difference,
) -> Difference:
    """Return how a file differs from the model for an image, or for a rounding without a problem.

    `compared` returns it for predictions of the model; `exact` is that for the image itself, and
    the result if each rounding has a problem, too.
    """
    if not exact.problem:
        return exact
    for seed in range(ROUNDINGS):
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
        batch = Batch.from_images([pixels * (1 + _STEP * noise)])
        predictions = eager.detect(batch, [size_px]).predictions
        assert predictions is not None, "detection transformers return their predictions"
        found = compared(predictions)
        if not found.problem:
            return found
    return exact
