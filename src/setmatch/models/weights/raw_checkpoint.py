"""Reading a checkpoint as it was published, before anything is known of its layout."""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from setmatch.errors import WeightsError, short
from setmatch.files.reading import read_text
from setmatch.models.weights.layouts.key_map import State
from setmatch.models.weights.tensor_files import (
    read_pickle,
    read_safetensors,
    require_plain_tensors,
)

CONFIG = "config.json"
SAFETENSORS, BIN = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"  # names the parts of weights in several files
# Keys under which trainers store the tensors of a model, beside everything else.
STATES = ("model", "state_dict", "model_state_dict", "model_state", "module", "net", "weights")
AVERAGES = ("ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema")
# Parts of names of compiled, sharded and recomputed modules; those before all names are prefixes.
WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
OTHER_FRAMEWORKS = ("tf_model.h5", "flax_model.msgpack", "model.onnx")


@dataclass(frozen=True)
class RawCheckpoint:
    """The tensors of a checkpoint under their published names, and the settings beside them.

    `settings` are the "args" of a .pth, or config.json of a folder; None if there are none.
    `preset` is the user's choice of model for checkpoints that do not tell. `source` is the name,
    path or hub repository that the user gave. `notes` list what was chosen or left out.
    """

    path: Path
    state: State
    settings: Mapping[str, Any] | None = None
    preset: str | None = None
    source: str = field(default="")
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, str]:
        """The names that may say what it was trained on: of its source, and of its file or folder.

        They differ for repositories, whose folder in the cache is called like a commit, and for
        model.safetensors, which is called alike in every folder.
        """
        return self.source.rsplit("/", 1)[-1], self.path.name


def read_pth(path: Path, preset: str | None = None) -> RawCheckpoint:
    """Read a file of torch: tensors, alone or where a trainer keeps them, and the "args" beside.

    Raises WeightsError for files that are damaged or hold anything but tensors and plain values.
    """
    content = read_pickle(path)
    state, notes = _model_state(content, path)
    args = content.get("args")
    settings = vars(args) if isinstance(args, argparse.Namespace) else args
    if not isinstance(settings, Mapping):
        settings = None
    tensors = require_plain_tensors(state, path)
    return RawCheckpoint(path, _unwrapped(tensors), settings, preset, path.name, notes)


def _unwrapped(state: State) -> State:
    """Return tensors without what torch puts into names where it wraps a part of a model."""
    return {WRAPPERS.sub("", key): value for key, value in state.items()}


def _model_state(content: Any, path: Path) -> tuple[Mapping[Any, Any], tuple[str, ...]]:
    """Return the dictionary of a model's tensors inside what a trainer saved, and notes."""
    notes: list[str] = []
    for _ in range(3):  # such as {"ema": {"module": {...}}}
        if not isinstance(content, Mapping) or not content:
            raise WeightsError(
                f"{path}: expected a dictionary of tensors, got {type(content).__name__}"
            )
        if {"state", "param_groups"} <= content.keys():
            raise WeightsError(f"{path}: is the state of an optimizer; give the file of the model")
        names = ("ema", *STATES) if _has_average(content) else (*STATES, *AVERAGES)
        inner = [key for key in names if isinstance(content.get(key), Mapping)]
        if not inner or any(isinstance(value, Tensor) for value in content.values()):
            break
        unread = [key for key in inner[1:] if key in AVERAGES or inner[0] in AVERAGES]
        if unread:
            notes.append(f"read the tensors under {inner[0]!r}, not those under {unread[0]!r}")
        content = content[inner[0]]
    return content, tuple(notes)


def _has_average(content: Mapping[Any, Any]) -> bool:
    """Return whether there is an average of the weights as the codes of RT-DETR and D-FINE save it.

    Their tools evaluate and export it, and not the weights beside it.
    """
    average = content.get("ema")
    return isinstance(average, Mapping) and bool(average.get("module"))


def is_hub_weights(path: Path) -> bool:
    """Return whether a file is the weights of a hub folder, with its config.json beside it."""
    return path.name in (SAFETENSORS, BIN) and (path.parent / CONFIG).is_file()


def read_hub_folder(folder: Path, source: str, preset: str | None = None) -> RawCheckpoint:
    """Read config.json and the weights of a folder as the hub has it.

    The weights are model.safetensors or pytorch_model.bin, or several parts that an index names.
    Raises WeightsError for files that are missing or damaged.
    """
    settings = read_json(folder / CONFIG)
    for name in (SAFETENSORS, BIN):
        if (folder / name).exists():
            tensors = _read_part(folder / name)
        elif (folder / f"{name}{INDEX}").is_file():
            tensors = _read_parts(folder / f"{name}{INDEX}")
        else:
            continue
        return RawCheckpoint(folder, _unwrapped(tensors), settings, preset, source)
    others = [name for name in OTHER_FRAMEWORKS if (folder / name).exists()]
    hint = f"; {others[0]} is of another framework: convert it with transformers" if others else ""
    raise WeightsError(
        f"{folder}: has a {CONFIG}, but no weights: neither {SAFETENSORS} nor {BIN}, nor an index "
        f"of their parts{hint}"
    )


def _read_part(path: Path) -> State:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    state, _ = _model_state(read_pickle(path), path)
    return require_plain_tensors(state, path)


def _read_parts(index: Path) -> State:
    """Read weights in several files, by the index that names the file of each tensor."""
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise WeightsError(f"{index}: has no weight_map, which names the file of each tensor")
    tensors: State = {}
    for part in named.values():
        if not isinstance(part, str) or "\0" in part or part == ".." or Path(part).name != part:
            raise WeightsError(f"{index}: {short(part)} is not the name of a file beside it")
    for part in dict.fromkeys(named.values()):
        tensors |= _read_part(index.parent / part)
    missing = [key for key in named if key not in tensors]
    if missing:
        raise WeightsError(f"{index}: tensor {short(missing[0])} is in none of its files")
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises WeightsError with the path."""
    try:
        tree = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(tree, dict):
        raise WeightsError(f"{path}: expected a JSON object")
    return tree
