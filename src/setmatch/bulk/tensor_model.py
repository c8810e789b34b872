"""Rows by a detector or an engine that torch runs."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from setmatch.bulk.opened_model import Choices, digest_of, reading
from setmatch.bulk.read_source import read_source
from setmatch.bulk.rows import Row, detection_rows, error_row
from setmatch.data.images.image_io import to_tensor
from setmatch.deploy.formats.card import weights_sha256
from setmatch.deploy.load import load_on, with_engine
from setmatch.distributed import init_distributed, single_process
from setmatch.errors import DataError
from setmatch.files.reading import sha256_of
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.engines.load import is_exported
from setmatch.inference.options import PredictOptions
from setmatch.inference.pipeline import detect_images
from setmatch.inference.tiles.engine import with_tiles


@dataclass(frozen=True)
class TensorModel:
    """A detector or an engine; `source` is the detector, or the path of an exported file."""

    source: Any
    engine: Engine
    digest: str
    options: PredictOptions

    def portable(self) -> Any:
        """Return the detector on the CPU, which every process has, or the path of the file."""
        is_detector = isinstance(self.source, nn.Module)
        return _on(torch.device("cpu"), self.source) if is_detector else self.source

    def rows(
        self, paths: Sequence[str], sources: Sequence[object]
    ) -> Iterator[tuple[int, list[Row]]]:
        """Yield the number of each image, in any order, and its rows."""
        options = reading(self.options, sources)
        for number, found in detect_images(
            self.engine,
            len(sources),
            lambda number: to_tensor(read_source(sources[number])),
            options,
        ):
            if isinstance(found, DataError):
                yield number, [error_row(paths[number], found)]
            else:
                runs = None if found.masks is None else found.masks.to_coco()
                masks = None if runs is None else [each["counts"] for each in runs]
                yield number, detection_rows(paths[number], found.size_px, found, masks)


def open_with_torch(model: Any, choices: Choices) -> TensorModel:
    """Load a model: weights by name or path, an exported file, a detector or an engine.

    Raises what `setmatch.load` raises, and ConfigError for choices that are out of range.
    """
    with single_process(), init_distributed(choices.device) as runtime:
        device = runtime.device
    if isinstance(model, str | Path) and is_exported(model):
        engine = as_engine(load_on(model, device, choices.engine))
        source, weights = model, sha256_of(model)
    elif isinstance(model, str | Path | nn.Module):
        source = _on(device, load_on(model, device) if isinstance(model, str | Path) else model)
        # The other engines use the CPU.
        name = None if choices.engine == "auto" and device.type != "cpu" else choices.engine
        engine, weights = as_engine(with_engine(source, name)), weights_sha256(source)
    else:
        engine, source, weights = model, model, type(model).__name__
    digest = digest_of(weights, engine.card)
    engine = with_tiles(engine, choices.tiles, choices.overlap)
    return TensorModel(source, engine, digest, choices.options_of(engine))


def _on(device: torch.device, detector: Any) -> Any:
    """Return the detector on a device, as a copy unless it is there: it may be the caller's own."""
    places = {parameter.device.type for parameter in detector.parameters()}
    return detector if places <= {device.type} else copy.deepcopy(detector).to(device)
