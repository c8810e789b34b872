"""`load`: a model from weights of any kind, or an engine from an exported file."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from setmatch.errors import ConfigError
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.compiled import CompiledEngine
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.inference.engines.openvino import OpenVinoEngine
from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.structures.metadata import Categories, Preprocessing

log = logging.getLogger("setmatch")
ENGINES: dict[str, Callable[[str | Path], Engine]] = {  # of files that hold no code
    ".onnx": OnnxRuntimeEngine,
    ".xml": OpenVinoEngine,
}


def load(
    source: str | Path,
    preset: str | None = None,
    categories: Categories | None = None,
    num_queries: int | None = None,
    preprocessing: Preprocessing | None = None,
    accept_license: str | None = None,
    trust: bool = False,
) -> Detector | Any:
    """Return a detector with trained weights, or the engine of an exported file.

    `setmatch.load` explains the arguments, and what is raised.
    """
    if not is_exported(source):
        return weights.load(source, preset, categories, num_queries, preprocessing, accept_license)
    changes = {
        "preset": preset,
        "categories": categories,
        "num_queries": num_queries,
        "preprocessing": preprocessing,
    }
    given = [name for name, value in changes.items() if value is not None]
    if given:
        raise ConfigError(
            f"{source}: {', '.join(given)} cannot be changed in an exported file; load the weights "
            "that it was made from, change them, and export again"
        )
    suffix = Path(source).suffix.lower()
    return ENGINES[suffix](source) if suffix in ENGINES else CompiledEngine(source, trust)


def load_on(source: str | Path, device: torch.device) -> Detector | Engine:
    """Return what `load` returns, on a device. An exported file runs on the CPU."""
    model: Detector | Engine = load(source)
    if isinstance(model, nn.Module):
        return model.to(device)
    warn_of_device(source, device)
    return model


def warn_of_device(source: str | Path, device: torch.device) -> None:
    """Say that an exported file does not run on a device other than the CPU."""
    if device.type != "cpu":
        log.warning("%s: an exported file runs on the CPU, not on %s", source, device)


def is_exported(source: str | Path) -> bool:
    """Return True for the path of an existing file that is an exported model by its name."""
    path = Path(source)
    return path.suffix.lower() in weights.EXPORTED and path.is_file()
