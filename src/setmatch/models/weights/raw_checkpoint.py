"""Reading a checkpoint as it was published, before anything is known of its layout.

Nothing in a file is ever run: a .pth is unpickled by torch's weights-only reader.
"""

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from setmatch.errors import WeightsError
from setmatch.models.weights.key_map import State
from setmatch.reading import read_text, require_regular


@dataclass(frozen=True)
class RawCheckpoint:
    """The tensors of a checkpoint under their published names, and the settings beside them.

    `settings` are the "args" of a .pth, or config.json of a folder; None if there are none.
    `preset` is the user's choice of model for checkpoints that do not tell. `source` is the name,
    path or hub repository that the user gave.
    """

    path: Path
    state: State
    settings: Mapping[str, Any] | None = None
    preset: str | None = None
    source: str = field(default="")


def read_pth(path: Path, preset: str | None = None) -> RawCheckpoint:
    """Read a .pth file: tensors, alone or under "model", and the plain values under "args".

    Raises WeightsError for files that are damaged or hold anything but tensors and plain values.
    """
    content = _safe_load(path)
    state, settings = content, None
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        state = content["model"]
        args = content.get("args")
        settings = vars(args) if isinstance(args, argparse.Namespace) else args
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path}: expected a dictionary of tensors, got {type(state).__name__}")
    others = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path}: {others[0]} is not a tensor; not a model checkpoint")
    tensors = {str(key).removeprefix("module."): value for key, value in state.items()}
    return RawCheckpoint(path, tensors, settings, preset, path.name)


def read_hub_folder(folder: Path, source: str, preset: str | None = None) -> RawCheckpoint:
    """Read config.json and model.safetensors of a folder as the hub has it.

    Raises WeightsError for files that are missing or damaged.
    """
    settings = read_json(folder / "config.json")
    try:
        require_regular(folder / "model.safetensors")
        tensors = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{folder}/model.safetensors: cannot be read ({error})") from None
    return RawCheckpoint(folder, tensors, settings, preset, source)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises WeightsError with the path."""
    try:
        tree = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(tree, dict):
        raise WeightsError(f"{path}: expected a JSON object")
    return tree


def _safe_load(path: Path) -> Any:
    try:
        require_regular(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it would run {blocked[1]}" if blocked else "its pickle is not plain data"
        raise WeightsError(
            f"{path}: refused, {what}; only tensors and plain values are read"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: damaged checkpoint ({reason}); download it again") from None
