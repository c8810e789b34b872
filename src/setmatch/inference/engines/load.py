"""`load`: a model from weights of any kind, or an engine from an exported file."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from setmatch.errors import ConfigError
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.inference.engines.openvino import OpenVinoEngine
from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.structures.metadata import Categories, Preprocessing

log = logging.getLogger("setmatch")
ENGINES: dict[str, Callable[[str | Path], Engine]] = {
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
) -> Detector | Any:
    """Return a detector with trained weights, in evaluation mode, or the engine of a file.

    `source` is the name of bundled weights ("scenes_n"), a published name ("detr_r50": downloaded,
    checked, cached), a hub repository or folder in transformers' layout, a .pth of the published
    code, a run folder, or a folder or file that `save` wrote; or a file that `export` wrote, .onnx
    or .xml, which `predict`, `evaluate` and `compare` take like a detector, and which cannot be
    trained.
    `preset` is needed for a .pth that does not store its model. A model of your own, outside of
    setmatch, loads once its module is imported: a file must not choose which code runs.
    `categories` changes the classes (rows with the same names are kept), `num_queries` the number
    of queries. What was kept, new or assumed is logged as a warning of the logger "setmatch".
    `preprocessing` replaces the image size of the weights' card; images are normalized as in the
    training of the weights. `accept_license` names the terms of weights that are not free for every
    use, such as "objects365"; the error says what they are.
    Raises WeightsError for weights that are missing, damaged, or do not fit; ConfigError for a
    change to an exported file, which cannot be changed; and ExtraMissingError for an exported file
    without the libraries of its extra.
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
    return ENGINES[Path(source).suffix.lower()](source)


def load_on(source: str | Path, device: torch.device) -> Detector | Engine:
    """Return what `load` returns, on a device. An exported file runs on the CPU."""
    model: Detector | Engine = load(source)
    if isinstance(model, nn.Module):
        return model.to(device)
    if device.type != "cpu":
        log.warning("%s: an exported file runs on the CPU, not on %s", source, device)
    return model


def is_exported(source: str | Path) -> bool:
    """Return True for the path of an existing file that is an exported model by its name."""
    path = Path(source)
    return path.suffix.lower() in weights.EXPORTED and path.is_file()
