"""What runs the graph of an exported file: arrays in, arrays out. Nothing here needs torch."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from setmatch.errors import ConfigError, WeightsError
from setmatch.inference.engines.exported_card import KEY, ExportedCard

if TYPE_CHECKING:
    import numpy as np


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
