"""Predictions of a model as its ties may be broken: what near ties among scores decide.

A model that chooses queries by score gives two tokens each other's place where their scores are
closer than float32 rounds. Another engine, or another order of the same operations, breaks such a
tie the other way, and every detection may move with it.

Scores may also be equal to the bit, as in a model that has hardly learned, whose tokens barely
depend on the image: no rounding of the image changes them. ONNX then takes the first of them,
PyTorch any.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

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
    """Return how a file differs from the model for an image, or for ties broken otherwise.

    `compared` returns it for predictions of the model; `exact` is that for the image itself, and
    the result if there is a problem however ties are broken.
    """
    if not exact.problem:
        return exact
    for predictions in _otherwise(eager, pixels, size_px):
        found = compared(predictions)
        if not found.problem:
            return found
    return exact


def _otherwise(
    eager: EagerEngine, pixels: Float[Tensor, "3 H W"], size_px: tuple[int, int]
) -> Iterator[Predictions]:
    """Yield the predictions with the first of equal scores, and for roundings of the image."""
    with FirstOfEquals():  # type: ignore[no-untyped-call]
        first = _predictions(eager, pixels, size_px)
    yield first
    for seed in range(ROUNDINGS):
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
        yield _predictions(eager, pixels * (1 + _STEP * noise), size_px)


def _predictions(
    eager: EagerEngine, pixels: Float[Tensor, "3 H W"], size_px: tuple[int, int]
) -> Predictions:
    predictions = eager.detect(Batch.from_images([pixels]), [size_px]).predictions
    assert predictions is not None, "detection transformers return their predictions"
    return predictions


class FirstOfEquals(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes `topk` take the first of equal values, as ONNX defines it, while it is entered."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute an operation."""
        if func is not torch.ops.aten.topk.default:
            return func(*args, **(kwargs or {}))
        values, count, *further = args
        dim, largest = (*further, *(-1, True)[len(further) :])[:2]
        ranked = values.sort(dim=dim, descending=largest, stable=True)
        return tuple(each.narrow(dim, 0, count).contiguous() for each in ranked)
