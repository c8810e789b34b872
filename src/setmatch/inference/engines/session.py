"""What runs the graph of an exported file: arrays in, arrays out. Nothing here needs torch."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from setmatch.errors import ConfigError, WeightsError
from setmatch.inference.engines.exported_card import KEY, ExportedCard

if TYPE_CHECKING:
    import numpy as np

_WITH_NO_OBJECT = "softmax"  # the classification loss with a logit for "no object"


class Session(ABC):
    """An exported file that is ready to run, and the card inside.

    `path` is for messages; `inputs` and `outputs` are the names of the graph's.
    """

    path: str
    exported: ExportedCard
    inputs: set[str]
    outputs: set[str]

    @abstractmethod
    def run(self, outputs: Sequence[str], inputs: "Mapping[str, np.ndarray]") -> "list[np.ndarray]":
        """Return the outputs; raises ConfigError for inputs that the graph cannot compute."""

    def predict(self, pixels: "np.ndarray") -> "list[np.ndarray]":
        """Return the network's predictions for preprocessed images (B, 3, height, width).

        They are logits (B, Q, C), boxes (B, Q, 4) and, if it predicts masks, their logits
        (B, Q, h, w). Raises WeightsError if the graph returns anything else.
        """
        names = output_names(self.exported.has_masks)
        found = self.run(names, {"pixels": pixels})
        ours = self.exported
        logits = len(ours.card.categories) + (ours.class_loss["name"] == _WITH_NO_OBJECT)
        queries = found[0].shape[1] if found[0].ndim == 3 else ours.num_queries
        start = (len(pixels), queries)
        wanted = dict(
            zip(names, [(*start, logits), (*start, 4), (*start, None, None)], strict=False)
        )
        for (name, shape), value in zip(wanted.items(), found, strict=True):
            pairs = zip(value.shape, shape, strict=False)
            fits = value.ndim == len(shape) and all(b in (a, None) for a, b in pairs)
            if not fits or value.dtype.kind != "f":
                sides = ", ".join("any" if side is None else str(side) for side in shape)
                raise WeightsError(
                    f"{self.path}: not as setmatch exported it: its output {name} is "
                    f"{value.dtype} {value.shape} for {len(pixels)} images, and should be float32 "
                    f"({sides}); export the model again"
                )
        return found

    def require(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Raise WeightsError unless the graph has the inputs and outputs."""
        missing = [f"input {name}" for name in inputs if name not in self.inputs]
        missing += [f"output {name}" for name in outputs if name not in self.outputs]
        if missing:
            raise WeightsError(
                f"{self.path}: not as setmatch exported it: the graph has no {', '.join(missing)}; "
                "export the model again"
            )

    def _does_not_run(self, inputs: "Mapping[str, np.ndarray]", cause: str) -> ConfigError:
        shapes = ", ".join(f"{name} {tuple(each.shape)}" for name, each in inputs.items())
        return ConfigError(
            f"{self.path}: does not run on {shapes}: {cause}; a file with --size takes that size "
            "alone, and images may be too small or too large for the model"
        )


@contextmanager
def readable_names(path: str | Path) -> Iterator[None]:
    """Raise WeightsError if a name that a runtime gives, also in a message, is not UTF-8."""
    try:
        yield
    except UnicodeDecodeError:
        raise WeightsError(
            f"{path}: damaged: a name in the graph is not UTF-8; copy it again, or export the "
            "model again"
        ) from None


def output_names(has_masks: bool) -> list[str]:
    """Return the names of the outputs that an engine reads."""
    return ["logits", "cxcywh", *(["mask_logits"] if has_masks else [])]


def not_ours(path: str, metadata: str) -> WeightsError:
    """Return the error for a file of another program, which has no card in its `metadata`."""
    return WeightsError(
        f"{path}: not exported by setmatch: its {metadata} has no entry {KEY!r}, the model card "
        "with classes and image size; write it by setmatch export"
    )


def num_threads() -> int:
    """Return how many threads to compute with: OMP_NUM_THREADS, as for PyTorch, or every core."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
