"""`load`: a model from weights of any kind, run by the engine that is asked for."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from setmatch.argument_types import checked
from setmatch.deploy.engine_cache import cached_engine, engine_folder
from setmatch.deploy.fastest import fastest_engine
from setmatch.deploy.formats.onnx import ONNX
from setmatch.deploy.formats.openvino import OPENVINO
from setmatch.deploy.formats.torch_package import TORCH
from setmatch.errors import ConfigError, suggest
from setmatch.inference.arrays.known_files import note_file
from setmatch.inference.engines import load as engines
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.models.detector import Detector
from setmatch.structures.metadata import Categories, Preprocessing

EngineName = Literal["auto", "eager", "compiled", "onnxruntime", "openvino"]
KINDS = {"onnxruntime": ONNX, "openvino": OPENVINO, "compiled": TORCH}
_WITHOUT_TORCH = ("onnxruntime", "openvino")  # whose files run without it, once they are known


@checked
def load(
    source: str | Path,
    preset: str | None = None,
    categories: Categories | None = None,
    num_queries: int | None = None,
    preprocessing: Preprocessing | None = None,
    accept_license: str | None = None,
    engine: EngineName | None = None,
    trust: bool = False,
) -> Detector | Any:
    """Return a detector with trained weights, in evaluation mode, or an engine that runs it.

    `source` is the name of bundled weights ("scenes_n"), a published name ("detr_r50": downloaded,
    checked, cached), a hub repository or folder in transformers' layout, a .pth of the published
    code, a run folder, or a folder or file that `save` wrote; or a file that `export` wrote, .onnx,
    .xml or .pt2, which `predict`, `evaluate` and `compare` take like a detector, and which cannot
    be trained.
    `preset` is needed for a .pth that does not store its model. A model of your own, outside of
    setmatch, loads once its module is imported: a file must not choose which code runs.
    `categories` changes the classes (rows with the same names are kept), `num_queries` the number
    of queries. What was kept, new or assumed is logged as a warning of the logger "setmatch".
    `preprocessing` replaces the image size of the weights' card; images are normalized as in the
    training of the weights. `accept_license` names the terms of weights that are not free for every
    use, such as "objects365"; the error says what they are.
    `engine` runs the model on the CPU by "onnxruntime", "openvino" or "compiled" code: a file for
    it is written and verified once, and stays in the cache folder. "auto" is the fastest engine
    that is installed and verified, measured once on this machine; compiled code only takes part if
    it is there, because compiling takes minutes. "eager", and the default, is the detector itself.
    `trust` lets a .pt2 file run the compiled code that it holds; other files hold none.
    Raises WeightsError for weights that are missing, damaged, or do not fit; ConfigError for a
    change to an exported file, which cannot be changed; ExtraMissingError for an engine without the
    libraries of its extra; and VerificationError for one whose detections differ from the model's.
    """
    _require_known(engine)
    is_exported = engines.is_exported(source)
    if is_exported:
        _require_own(source, engine)
    loaded = engines.load(
        source, preset, categories, num_queries, preprocessing, accept_license, trust
    )
    if is_exported:
        return loaded
    model = with_engine(loaded, engine)
    changes = (preset, categories, num_queries, preprocessing)
    if engine is not None and engine in _WITHOUT_TORCH and all(each is None for each in changes):
        kind = KINDS[engine]
        file = engine_folder(loaded, kind) / f"model{kind.suffix}"
        with suppress(OSError):  # of a cache that can only be read
            note_file(source, engine, file, ("torch", *kind.libraries))
    return model


def load_on(
    source: str | Path, device: torch.device, engine: EngineName | None = None
) -> Detector | Engine:
    """Return what `load` returns, on a device: the detector itself, for other engines use the CPU.

    On another device than the CPU, "auto" is the detector itself.
    """
    if engine == "auto" and device.type != "cpu":
        engine = None
    model: Detector | Engine = load(source, engine=engine)
    if isinstance(model, nn.Module):
        return model.to(device)
    engines.warn_of_device(source, device)
    return model


def with_engine(detector: Detector, engine: EngineName | None) -> Detector | Engine:
    """Return the detector run by an engine; for "eager" and None, the detector itself."""
    _require_known(engine)
    name = _fastest(detector) if engine == "auto" else engine or "eager"
    return detector if name == "eager" else OPENERS[name](detector)


def _fastest(detector: Detector) -> str:
    """Return the name of the fastest engine; "eager" for a model that cannot be exported."""
    try:
        is_compiled = engine_folder(detector, TORCH).exists()
    except ConfigError:
        return "eager"
    taking_part = {name for name in OPENERS if name != "compiled" or is_compiled}
    return fastest_engine(detector, {each: OPENERS[each] for each in sorted(taking_part)})


def _require_known(engine: str | None) -> None:
    known = (*OPENERS, "auto")
    if engine is not None and engine not in known:
        raise ConfigError(f"engine {engine}: {suggest(engine, known)}")


def _require_own(source: str | Path, engine: str | None) -> None:
    suffix = Path(source).suffix.lower()
    own = next(name for name, kind in KINDS.items() if kind.suffix == suffix)
    if engine not in (None, "auto", own):
        raise ConfigError(
            f"{source}: this file is run by {own}, not by {engine}; give the weights that it was "
            "made from"
        )


def _open(name: str, detector: Detector) -> Engine:
    return cached_engine(detector, KINDS[name])


OPENERS: dict[str, Callable[[Detector], Engine]] = {
    "eager": as_engine,
    **{name: partial(_open, name) for name in KINDS},
}
