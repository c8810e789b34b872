"""Open an OpenVINO file that setmatch exported, and run it; nothing here needs torch."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setmatch.errors import ExtraMissingError, WeightsError, short
from setmatch.files.reading import open_regular, require_regular
from setmatch.inference.engines.exported_card import KEY, ExportedCard, read_exported_card
from setmatch.inference.engines.openvino_graphs import Graphs
from setmatch.inference.engines.session import (
    Session,
    not_ours,
    num_threads,
    output_names,
    readable_names,
)

if TYPE_CHECKING:
    import numpy as np

WEIGHTS_KEY = f"{KEY}_bin_sha256"  # of the .bin file: an .xml of another export has another
_HEAD_BYTES = 1000


class OpenVinoSession(Session):
    """An OpenVINO model, .xml and .bin, on the CPU, and the card in its rt_info.

    `network` leaves out what an end-to-end model does before and after the network, `inner` are
    values inside that are returned as well. All is computed in float32, though the CPU may be
    faster in bfloat16. Raises WeightsError for a file that setmatch did not export or that is
    damaged, ExtraMissingError without openvino.
    """

    def __init__(
        self,
        path: str | Path,
        network: bool = False,
        inner: Sequence[str] = (),
        threads: int | None = None,
    ) -> None:
        self.path = str(path)
        openvino = openvino_library(f"{path}: needs openvino")
        model, self.exported = read_model(Path(path))
        if network and self.exported.end_to_end:
            model = _network_of(openvino, model, output_names(self.exported.has_masks), self.path)
        if inner:
            model.add_outputs([_value(model, name, self.path) for name in inner])
        self._shape = openvino.PartialShape
        with readable_names(path):
            self._graphs = Graphs(_core(openvino), model, _settings(threads))
            self._shapes = {each.get_any_name(): each.get_partial_shape() for each in model.inputs}
            self.outputs = {name for each in model.outputs for name in each.get_names()}
        self.inputs = set(self._shapes)

    def run(self, outputs: Sequence[str], inputs: "Mapping[str, np.ndarray]") -> "list[np.ndarray]":
        """Return the outputs; raises ConfigError for inputs that the graph cannot compute."""
        for name, value in inputs.items():
            # OpenVINO itself may return nonsense.
            if not self._shapes[name].compatible(self._shape(value.shape)):
                raise self._does_not_run(inputs, f"{name} has the shape {self._shapes[name]}")
        try:
            results = self._graphs.infer(inputs)
        except RuntimeError as error:
            raise self._does_not_run(inputs, _cause(error)) from None
        return [results[name] for name in outputs]


def openvino_library(what: str) -> Any:
    """Return the module openvino; raises ExtraMissingError without it. `what` needs it."""
    try:
        import openvino
    except ImportError:
        raise ExtraMissingError(
            f"{what}; install it with: pip install 'setmatch[openvino]'"
        ) from None
    return openvino


def read_model(path: Path) -> tuple[Any, ExportedCard]:
    """Return the model of an .xml and a .bin file that setmatch exported, and its card."""
    model = _read(openvino_library(f"{path}: needs openvino"), path)
    exported = read_exported_card(_entry(model, KEY, str(path)), str(path))
    _require_same_weights(model, path)
    return model, exported


def compiled(openvino: Any, model: Any, threads: int | None = None) -> Any:
    """Return a model that is ready to run inputs of any shape on the CPU, in float32."""
    return _core(openvino).compile_model(model, "CPU", _settings(threads))


def _settings(threads: int | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # After an image of 32x32, kernels kept for its shape computed others wrongly (2026.4).
        "CPU_RUNTIME_CACHE_CAPACITY": 0,
    }
    count = num_threads() if threads is None else threads
    if count:
        settings["INFERENCE_NUM_THREADS"] = count
    return settings


@cache
def _core(openvino: Any) -> Any:
    """Return the one Core of this process.

    Its plugin gives the thread that loads it a stack for signal handlers. If another thread unloads
    the plugin, that stack is freed but stays in use, and the next signal with a handler ends the
    process without a message (2026.4). A Core that is kept is never unloaded.
    Files are read, not mapped: what is written over one would change the weights of a model in use,
    or end the process.
    """
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})
    return core


def weights_of(path: Path) -> Path:
    """Return the file with the weights of an .xml file."""
    return path.with_suffix(".bin")


def sha256_of_weights(path: Path) -> str:
    """Return the SHA-256 of the .bin file of an .xml file."""
    with open_regular(weights_of(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(openvino: Any, path: Path) -> Any:
    with open_regular(path) as file:  # never a FIFO, whose writer OpenVINO would wait for
        if b"<net" not in file.read(_HEAD_BYTES):
            raise WeightsError(
                f"{path}: not a model of OpenVINO; write one by setmatch export --to openvino"
            )
    weights = weights_of(path)
    if not weights.exists():
        raise WeightsError(f"{weights}: missing: it has the weights of {path.name}; copy both")
    require_regular(weights)
    if not openvino.frontend.FrontEndManager().load_by_framework("ir").supported(str(path)):
        # Otherwise OpenVINO would try it as files of other kinds, which print to the terminal.
        raise WeightsError(
            f"{path}: its format is of another version; update openvino, or export the model again"
        )
    try:
        with readable_names(path):
            return _core(openvino).read_model(str(path))
    except RuntimeError as error:
        raise WeightsError(
            f"{path}: OpenVINO cannot open it, or {weights.name}: {_cause(error)}; copy both "
            "again, or export the model again"
        ) from None


def _entry(model: Any, name: str, path: str) -> str:
    """Return an entry of the rt_info."""
    if not model.has_rt_info(name):
        raise not_ours(path, "rt_info")
    with readable_names(path):
        return str(model.get_rt_info(name).astype(str))


def _require_same_weights(model: Any, path: Path) -> None:
    if _entry(model, WEIGHTS_KEY, str(path)) != sha256_of_weights(path):
        raise WeightsError(
            f"{weights_of(path)}: damaged, or of another export than {path.name}; copy both again"
        )


def _network_of(openvino: Any, model: Any, outputs: Sequence[str], path: str) -> Any:
    """Return an end-to-end model without what it does before and after the network."""
    from openvino import opset13

    results = [_value(model, name, path) for name in outputs]
    inner = _value(model, "pixels", path)
    shape = inner.get_partial_shape()  # of one image; the network takes any number
    pixels = opset13.parameter([-1, *list(shape)[1:]], inner.get_element_type())
    pixels.output(0).set_names({"pixels"})
    for user in inner.get_target_inputs():
        user.replace_source_output(pixels.output(0))
    inner.set_names(set())
    return openvino.Model([opset13.result(each) for each in results], [pixels], "network")


def _value(model: Any, name: str, path: str) -> Any:
    """Return a value inside a model."""
    for operation in model.get_ops():
        for value in operation.outputs():
            if name in value.get_names():
                return value
    raise WeightsError(
        f"{path}: not as setmatch exported it: the graph has no value {name}; export the model "
        "again"
    )


def _cause(error: Exception) -> str:
    """Return the message of OpenVINO without the places in its source."""
    lines = [line for line in str(error).splitlines() if line and not _PLACE.match(line)]
    return short(" ".join(lines), 160).strip("'\"")


_PLACE = re.compile(r"Exception from |Check '.*' failed at ")
