"""Open an ONNX file that setmatch exported, and run it; nothing here needs torch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setmatch.errors import ConfigError, ExtraMissingError, WeightsError, short
from setmatch.files.reading import require_regular
from setmatch.inference.engines.exported_card import KEY, ExportedCard, read_exported_card

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import InferenceSession


class OnnxSession:
    """An ONNX file in ONNX Runtime on the CPU, and the card in its metadata.

    `path` is the file, or `content` its bytes and `path` its name for messages. Raises WeightsError
    for a file that setmatch did not export or that is damaged, ExtraMissingError without
    onnxruntime.
    """

    def __init__(
        self, path: str | Path, content: bytes | None = None, threads: int | None = None
    ) -> None:
        self.path = str(path)
        if content is None:
            require_regular(path)  # ONNX Runtime would wait for the writer of a FIFO
        self._session = _open(self.path, content, threads)
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise WeightsError(
                f"{self.path}: not exported by setmatch: its metadata has no entry {KEY!r}, the "
                "model card with classes and image size; write it by setmatch export"
            )
        self.exported: ExportedCard = read_exported_card(text, self.path)
        self.inputs = {each.name for each in self._session.get_inputs()}
        self.outputs = {each.name for each in self._session.get_outputs()}

    def require(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Raise WeightsError unless the graph has the inputs and outputs."""
        missing = [f"input {name}" for name in inputs if name not in self.inputs]
        missing += [f"output {name}" for name in outputs if name not in self.outputs]
        if missing:
            raise WeightsError(
                f"{self.path}: not as setmatch exported it: the graph has no {', '.join(missing)}; "
                "export the model again"
            )

    def run(self, outputs: Sequence[str], inputs: "Mapping[str, np.ndarray]") -> "list[np.ndarray]":
        """Return the outputs; raises ConfigError for inputs that the graph cannot compute."""
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        try:
            return self._session.run(list(outputs), dict(inputs))
        except (errors.Fail, errors.InvalidArgument, errors.RuntimeException) as error:
            shapes = ", ".join(f"{name} {tuple(each.shape)}" for name, each in inputs.items())
            raise ConfigError(
                f"{self.path}: does not run on {shapes}: {_cause(error)}; a file with --size takes "
                "that size alone, and images may be too small or too large for the model"
            ) from None


def _open(path: str, content: bytes | None, threads: int | None) -> "InferenceSession":
    try:
        import onnxruntime
    except ImportError:
        raise ExtraMissingError(
            f"{path}: needs onnxruntime; install it with: pip install 'setmatch[onnx]'"
        ) from None
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, too
    options.intra_op_num_threads = _num_threads() if threads is None else threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    failures = (
        *(errors.InvalidProtobuf, errors.InvalidGraph, errors.Fail, errors.NotImplemented),
        *(errors.InvalidArgument, errors.NoSuchFile, errors.RuntimeException),
    )
    try:
        return onnxruntime.InferenceSession(
            path if content is None else content, options, providers=["CPUExecutionProvider"]
        )
    except failures as error:
        raise WeightsError(f"{path}: {_why_not(error)}") from None


def _why_not(error: Exception) -> str:
    """Return why ONNX Runtime cannot open a file, and what to do."""
    text = str(error)
    if isinstance(error, _state().InvalidProtobuf) or "Protobuf parsing failed" in text:
        return "damaged, or not an ONNX file; copy it again, or export the model again"
    if "external data" in text.lower() or "External data path" in text:
        return f"its weights are in another file, which is missing: {_cause(error)}; copy both"
    if "opset" in text.lower():
        return f"its operations are of another version: {_cause(error)}; update onnxruntime"
    return f"ONNX Runtime cannot open it: {_cause(error)}; export the model again"


def _state() -> Any:
    from onnxruntime.capi import onnxruntime_pybind11_state

    return onnxruntime_pybind11_state


def _cause(error: Exception) -> str:
    """Return the message of ONNX Runtime without its code and the places in its source."""
    text = " ".join(str(error).split()).rsplit(" : ", 1)[-1]
    return short(text, 160).strip("'\"")


def _num_threads() -> int:
    """Return how many threads to compute with: OMP_NUM_THREADS, as for PyTorch, or every core."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
