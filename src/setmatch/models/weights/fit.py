"""Compare weights with the model that their card describes, before memory is allocated for it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from setmatch.errors import ConfigError, WeightsError
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.models.weights.layouts.key_map import State
from setmatch.models.weights.layouts.layout import OTHER_VERSION
from setmatch.structures.metadata import ModelCard

# What the construction of a model raises for a combination of arguments that it cannot have.
_BUILDING = (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AssertionError)


@dataclass(frozen=True)
class FittingWeights:
    """A model without memory, and the weights for all of its tensors, in its number formats."""

    detector: Detector  # on the device "meta"
    state: State
    notes: tuple[str, ...]  # conversions

    def fill(self) -> Detector:
        """Return the detector with the weights, in evaluation mode."""
        detector = self.detector
        detector.load_state_dict(self.state, strict=True, assign=True)
        unset = [name for name, buffer in detector.named_buffers() if buffer.is_meta]
        assert not unset, (
            f"{detector.card.preset}: buffer {unset[0]} is in no checkpoint; make it persistent"
        )
        return detector.to(memory_format=torch.channels_last).eval()


def fit(
    card: ModelCard, state: State, source: str, explanation: str = OTHER_VERSION
) -> FittingWeights:
    """Return the model of `card` with weights that fit it; numbers are converted to its format.

    It takes no more memory than the weights. Raises WeightsError with the tensors that are missing,
    unknown, of another shape or no floating-point numbers, or for a card that no model can have,
    and with the `explanation`; also with the tensors that have numbers that are not finite.
    """
    advice = "" if ":" in card.preset else f"; {explanation}"
    try:
        with torch.device("meta"):
            detector = build(card)
    except ConfigError as error:
        raise WeightsError(f"{source}: {error}{advice}") from None
    except _BUILDING as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{source}: {card.preset} cannot be built with the arguments of its card ({reason})"
            f"{advice}"
        ) from error
    expected = detector.state_dict()
    differences = _differences(expected, state)
    if differences:
        raise WeightsError(f"{source}: does not fit {card.preset}: {differences}; {explanation}")
    converted = {key: value.to(expected[key].dtype) for key, value in state.items()}
    wrong = [key for key, value in converted.items() if not _is_finite(value)]
    if wrong:
        shown = ", ".join(wrong[:3]) + f" and {len(wrong) - 3} more" * (len(wrong) > 3)
        raise WeightsError(
            f"{source}: {len(wrong)} of {len(converted)} tensors have numbers that are not finite: "
            f"{shown}; the training has diverged or the file is damaged, load earlier weights"
        )
    return FittingWeights(detector, converted, _conversions(expected, state))


def _is_finite(value: Tensor) -> bool:
    """Return whether a tensor has neither NaN nor infinity, without a copy of it."""
    if not value.is_floating_point() or not value.numel():
        return True
    return all(bool(end.isfinite()) for end in torch.aminmax(value))


def _differences(expected: Mapping[str, Tensor], actual: State) -> str:
    missing = [f"{key} is missing" for key in expected if key not in actual]
    unknown = [f"{key[:200]} is unknown" for key in actual if key not in expected]
    problems: list[str] = []
    for key, value in actual.items():
        if key not in expected:
            continue
        shape, wanted = tuple(value.shape), tuple(expected[key].shape)
        if shape != wanted:
            problems.append(f"{key} is {shape}, not {wanted}")
        elif _kind(value.dtype) != _kind(expected[key].dtype):
            names = _name(value.dtype), _name(expected[key].dtype)
            problems.append(f"{key} holds {names[0]} numbers, not {names[1]}")
    kinds = ((missing, "missing"), (unknown, "unknown"), (problems, "of another shape or kind"))
    return "; ".join(
        "; ".join(found[:2]) + (f", and {len(found) - 2} more {kind}" if len(found) > 2 else "")
        for found, kind in kinds
        if found
    )


def _kind(dtype: torch.dtype) -> str:
    """Return which dtypes convert into each other without a loss of meaning."""
    if dtype == torch.bool or dtype.is_complex or dtype.itemsize == 1:
        return str(dtype)  # one byte: quantized to a scale that is not known
    return "floating" if dtype.is_floating_point else "integer"


def _conversions(expected: Mapping[str, Tensor], actual: State) -> tuple[str, ...]:
    counts = Counter(
        (_name(value.dtype), _name(expected[key].dtype))
        for key, value in actual.items()
        if value.dtype != expected[key].dtype
    )
    return tuple(
        f"converted {count} tensors from {old} to {new}" for (old, new), count in counts.items()
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
