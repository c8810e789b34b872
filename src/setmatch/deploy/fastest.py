"""The fastest engine on this machine: measured once, and remembered in the cache folder."""

import hashlib
import json
import logging
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from setmatch.data.batches.transforms import preprocess
from setmatch.deploy.engine_cache import detector_folder
from setmatch.deploy.verification.verify import images_to_verify, sizes_to_verify
from setmatch.errors import ConfigError, ExtraMissingError, VerificationError
from setmatch.evaluation.timing import time_interleaved
from setmatch.files.reading import read_text
from setmatch.files.writing import write_text
from setmatch.inference.engines.base import Engine
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch

log = logging.getLogger("setmatch")
ROUNDS = 5
Openers = Mapping[str, Callable[[Detector], Engine]]  # by the name of the engine


def fastest_engine(detector: Detector, openers: Openers) -> str:
    """Return the name of the engine that detects fastest in one image of the model's usual size.

    Engines whose libraries are not installed, whose detections differ from the model's, or whose
    file cannot be written into the cache, are left out. The choice is remembered for these weights,
    this processor, and these versions.
    """
    path = detector_folder(detector) / f"fastest-{_machine(openers)}.json"
    remembered = _read(path)
    if remembered is not None and remembered in openers:
        return remembered
    engines = {}
    for name, open_engine in openers.items():
        try:
            engines[name] = open_engine(detector)
        except ExtraMissingError:
            continue
        except (VerificationError, ConfigError, OSError) as error:
            log.warning("engine %s is left out: %s", name, error)
    median_s = _measure(detector, engines)
    fastest = min(median_s, key=median_s.__getitem__)
    with suppress(OSError):  # of a cache that cannot be written; files for engines said so
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"fastest": fastest, "median_s": median_s}, indent=1))
    return fastest


def _measure(detector: Detector, engines: Mapping[str, Engine]) -> dict[str, float]:
    preprocessing = detector.card.preprocessing
    size_px = sizes_to_verify(preprocessing)[0]
    image = images_to_verify(None)[0].pixels
    batch = Batch.from_images([preprocess(image, preprocessing, size_px)])
    tasks = [[partial(each.detect, batch, [size_px])] for each in engines.values()]
    seconds = time_interleaved(tasks, ROUNDS)
    return {name: statistics.median(each) for name, each in zip(engines, seconds, strict=True)}


def _machine(openers: Openers) -> str:
    """Return a name for what the speed depends on: processor, threads, and versions."""
    facts = [platform.machine(), _processor(), str(torch.get_num_threads()), str(os.cpu_count())]
    for name in ("torch", "onnxruntime", "openvino", *openers):
        try:
            facts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            facts.append(name)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = read_text(Path("/proc/cpuinfo")).splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())


def _read(path: Path) -> str | None:
    """Return the remembered name, or None if there is none that can be read."""
    try:
        name = json.loads(read_text(path))["fastest"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None
