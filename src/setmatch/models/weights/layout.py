"""A checkpoint layout: how one published code names and stores the weights of a model family."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from setmatch.models.weights.key_map import State
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.structures.metadata import ModelCard


@dataclass(frozen=True)
class LoadedWeights:
    """A model card and tensors in our names; `notes` list what was assumed or changed."""

    card: ModelCard
    state: State
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckpointLayout:
    """How to recognize, read and write one layout.

    `matches` takes the tensor names of a checkpoint. `read` renames its tensors into ours (see
    `key_map.from_layout`) and makes the model card; it raises WeightsError for a checkpoint that it
    cannot read. `write`, if there is one, writes a file or folder and raises WeightsError for a
    model that the layout has no place for.

    To add a layout from outside, append it to `setmatch.models.registry.LAYOUTS`.
    """

    name: str
    matches: Callable[[Collection[str]], bool]
    read: Callable[[RawCheckpoint], LoadedWeights]
    write: Callable[[ModelCard, State, Path], None] | None = None
