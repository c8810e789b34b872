"""Open an ONNX file that setmatch exported, and run it; nothing here needs torch."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setmatch.errors import ExtraMissingError, WeightsError, diverged, short
from setmatch.files.reading import require_regular
from setmatch.inference.engines.exported_card import KEY, read_exported_card
from setmatch.inference.engines.session import (
    Session,
    not_ours,
    num_threads,
    output_names,
    readable_names,
)
from setmatch.usage_reports import turn_off_reports

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from onnxruntime import InferenceSession

# A file of ONNX Runtime's source, with the line, and the signature or name of the function there.
_SOURCE = re.compile(r"\S*\w+\.(?:cc|h):\d+ (?:[^()]*\([^()]*(?:\([^()]*\)[^()]*)*\) |\w+ )?")
# What is sampled at a place that is not a number; every other place is moved into the image.
_NO_SUCH_PLACE = "indices element out of data bounds"


class OnnxSession(Session):
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
        with readable_names(path):
            self._session = _open(self.path, content, threads)
            text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
            self.inputs = {each.name for each in self._session.get_inputs()}
            self.outputs = {each.name for each in self._session.get_outputs()}
        if text is None:
            raise not_ours(self.path, "metadata")
        self.exported = read_exported_card(text, self.path)

    def run(self, outputs: Sequence[str], inputs: "Mapping[str, np.ndarray]") -> "list[np.ndarray]":
        """Return the outputs; raises ConfigError for inputs that the graph cannot compute.

        Raises WeightsError if values inside are not finite.
        """
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        try:
            with readable_names(self.path):
                return self._session.run(list(outputs), dict(inputs))
        except (errors.Fail, errors.InvalidArgument, errors.RuntimeException) as error:
            if _NO_SUCH_PLACE in str(error):
                raise diverged("points to look at") from None
            raise self._does_not_run(inputs, _cause(error)) from None


def onnxruntime_library(what: str) -> Any:
    """Return the module onnxruntime, which `what` needs; raises ExtraMissingError without it."""
    turn_off_reports("onnxruntime")
    try:
        import onnxruntime
    except ImportError:
        raise ExtraMissingError(f"{what}; install it with: pip install 'setmatch[onnx]'") from None
    return onnxruntime


def open_network(path: str | Path, threads: int | None = None) -> OnnxSession:
    """Open the network of an ONNX file, from `pixels` to the `output_names`.

    It is the whole graph, or what an end-to-end graph has between its ends. Raises the errors of
    OnnxSession, and ExtraMissingError for an end-to-end file without onnx.
    """
    session = OnnxSession(path, threads=threads)
    if session.exported.end_to_end:
        return OnnxSession(path, _read_network(path), threads)
    return session


def network_of(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a graph without what it does before the network and with its predictions."""
    import onnx
    import onnx.utils

    values = {each.name for each in (*model.graph.value_info, *model.graph.output)}
    outputs = [each for each in output_names(has_masks=True) if each in values]
    network = onnx.utils.Extractor(model).extract_model(["pixels"], outputs)
    network.metadata_props.extend(model.metadata_props)
    return network


def _read_network(path: str | Path) -> bytes:
    """Read the network of an end-to-end file; raises ExtraMissingError without onnx."""
    try:
        import onnx
    except ImportError:
        raise ExtraMissingError(
            f"{path}: an end-to-end file needs onnx to be taken apart; install it with: "
            "pip install 'setmatch[onnx]'"
        ) from None
    content: bytes = network_of(onnx.load(str(path))).SerializeToString()
    return content


def _open(path: str, content: bytes | None, threads: int | None) -> "InferenceSession":
    onnxruntime = onnxruntime_library(f"{path}: needs onnxruntime")
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, too
    options.intra_op_num_threads = num_threads() if threads is None else threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    failures = (
        *(errors.InvalidProtobuf, errors.InvalidGraph, errors.Fail, errors.NotImplemented),
        *(errors.InvalidArgument, errors.NoSuchFile, errors.RuntimeException),
    )
    try:
        return onnxruntime.InferenceSession(
            path if content is None else content,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=False,  # to the same provider, with messages on the terminal
        )
    except failures as error:
        raise WeightsError(f"{path}: {_why_not(error)}") from None


def _why_not(error: Exception) -> str:
    """Return why ONNX Runtime cannot open a file, and what to do."""
    text = str(error)
    damaged = ("Protobuf parsing failed", "No graph was found", "does not have a graph")
    if isinstance(error, _state().InvalidProtobuf) or any(each in text for each in damaged):
        return "damaged, or not an ONNX file; copy it again, or export the model again"
    if "External initializer" in text:
        return f"its weights are in another file, which is damaged: {_cause(error)}; copy both"
    if "Cannot parse data from external tensors" in text:
        return "its shapes are in another file, and are to be in this one; export the model again"
    if "external data" in text.lower() or "External data path" in text:
        return f"its weights are in another file, which is missing: {_cause(error)}; copy both"
    if "opset" in text.lower():
        return f"its operations are of another version: {_cause(error)}; update onnxruntime"
    if "model IR version" in text:
        return f"its format is of another version: {_cause(error)}; update onnxruntime"
    return f"ONNX Runtime cannot open it: {_cause(error)}; export the model again"


def _state() -> Any:
    from onnxruntime.capi import onnxruntime_pybind11_state

    return onnxruntime_pybind11_state


def _cause(error: Exception) -> str:
    """Return the message of ONNX Runtime without its code and the places in its source."""
    text = " ".join(str(error).split()).rsplit(" : ", 1)[-1]
    text = _SOURCE.sub("", re.sub(r"^Load model from .*? failed:", "", text))
    return short(text, 160).strip("'\"")
