"""Write a detector as an ONNX file: one file, any number of images, with a model card inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.data.dataset import DetectionDataset
from setmatch.deploy.formats.base import INNER, ExportFormat
from setmatch.deploy.formats.card import exported_card
from setmatch.deploy.formats.end_to_end import with_ends
from setmatch.deploy.formats.traced import DecodedDetector, quiet
from setmatch.deploy.precision.int8_convolutions import with_int8_convolutions
from setmatch.deploy.precision.precision import Lower
from setmatch.deploy.precision.smaller_weights import with_smaller_weights
from setmatch.deploy.verification.first_difference import first_difference
from setmatch.errors import ConfigError, short
from setmatch.inference.engines.exported_card import KEY, ExportedCard, read_exported_card
from setmatch.inference.engines.onnx_session import OnnxSession, network_of
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.models.detector import Detector

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch.export import ExportedProgram

OPSET = 18
TRACED_PX = (96, 128)  # with dynamic sizes, any size gives the same graph
TRACED_IMAGES = 2  # one image would fix the batch at one


@dataclass(frozen=True)
class OnnxGraph:
    """A graph with its card in the metadata, and the program that it was made from.

    The values of both have the same names, as far as the graph was not simplified.
    """

    model: "onnx.ModelProto"
    program: "ExportedProgram"

    @property
    def network(self) -> "onnx.ModelProto":
        """The graph from preprocessed images to raw predictions."""
        is_network = any(each.name == "pixels" for each in self.model.graph.input)
        return self.model if is_network else network_of(self.model)

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(self.model.SerializeToString())

    def first_difference(self, pixels: Float[Tensor, "B 3 H W"]) -> str:
        """Return which part first differs from PyTorch in ONNX Runtime, as a sentence."""
        network = self.network

        def values(names: Sequence[str]) -> "list[np.ndarray]":
            session = OnnxSession("the file", _with_outputs(network, names))
            return session.run(names, {"pixels": pixels.numpy()})

        return first_difference(value_names(network), values, self.program, pixels)


def to_onnx(
    detector: Detector, size_px: tuple[int, int] | None = None, end_to_end: bool = False
) -> OnnxGraph:
    """Return the graph of a detector for images of `size_px` (height, width), or of any size.

    It needs onnx and onnxscript. Raises ConfigError for a model that cannot be exported.
    """
    card = exported_card(detector, size_px, end_to_end, ("torch", "onnx"), {"opset": OPSET})
    traced = DecodedDetector(detector).eval()
    pixels = torch.zeros(TRACED_IMAGES, 3, *(size_px or TRACED_PX))
    free = {0: "batch"} if size_px else {0: "batch", 2: "height", 3: "width"}
    with quiet():
        try:
            program = torch.onnx.export(
                traced,
                (pixels,),
                dynamo=True,
                dynamic_shapes=(free,),
                input_names=["pixels"],
                output_names=list(traced.names),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ConfigError(
                f"model {detector.card.preset}: cannot be exported: {_cause(error)}"
            ) from error
    assert program is not None, "the exporter returns a program unless it is given a file"
    assert program.exported_program is not None, "the exporter keeps what it traced"
    model = program.model_proto
    _forget_sources(model)
    if end_to_end:
        model = with_ends(model, card.card.preprocessing, card.has_masks)
    else:
        model = network_of(model)
    import onnx

    onnx.helper.set_model_props(model, {KEY: card.to_json()})
    model.producer_name, model.producer_version = "setmatch", str(card.made_with["setmatch"])
    return OnnxGraph(model, program.exported_program)


def exported_of(model: "onnx.ModelProto") -> ExportedCard:
    """Return the card in the metadata of a graph that setmatch exported."""
    (entry,) = (each for each in model.metadata_props if each.key == KEY)
    return read_exported_card(entry.value, "the graph")


def value_names(model: "onnx.ModelProto") -> list[str]:
    """Return the names of all values of a graph, in the order in which they are computed."""
    return [name for node in model.graph.node for name in node.output]


def _open_ends(path: Path) -> OnnxSession:
    import onnx

    return OnnxSession(path, _with_outputs(onnx.load(str(path)), INNER))


def _with_outputs(model: "onnx.ModelProto", names: Sequence[str]) -> bytes:
    """Return the file of a graph that returns more of its values."""
    import onnx

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    kept = {each.name for each in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=each) for each in names if each not in kept)
    content: bytes = opened.SerializeToString()
    return content


def _forget_sources(model: "onnx.ModelProto") -> None:
    """Remove what the exporter notes on every node: paths and lines of Python files."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]


def _cause(error: BaseException) -> str:
    """Return the first line of the error that made an export fail."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {short(lines[0] if lines else '', 200)}"


def _half(path: Path, images: DetectionDataset) -> None:
    """Store the weights of a file in float16."""
    _rewrite(path, with_smaller_weights(_open(path), "half"))


def _int8(path: Path, images: DetectionDataset) -> None:
    _rewrite(path, with_int8_convolutions(path, images))


def _open(path: Path) -> "onnx.ModelProto":
    import onnx

    return onnx.load(str(path))


def _rewrite(path: Path, model: "onnx.ModelProto") -> None:
    path.write_bytes(model.SerializeToString())


ONNX = ExportFormat(
    "onnx",
    ".onnx",
    (),
    ("onnx", "onnxscript", "onnxruntime"),
    "onnx",
    to_onnx,
    OnnxRuntimeEngine,
    _open_ends,
    {"half": Lower(_half), "int8": Lower(_int8)},
)
