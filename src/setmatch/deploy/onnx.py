"""Write a detector as an ONNX file: one file, any number of images, with a model card inside."""

import dataclasses
import hashlib
import importlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from setmatch.deploy.end_to_end import with_ends
from setmatch.deploy.traced import DecodedDetector, TracedDetector, quiet
from setmatch.errors import ConfigError, ExtraMissingError, short
from setmatch.inference.engines.exported_card import KEY, ExportedCard
from setmatch.losses.classification import CLASSIFICATION_LOSSES, ClassificationLoss
from setmatch.models.detector import Detector
from setmatch.structures.metadata import ModelCard

if TYPE_CHECKING:
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

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(self.model.SerializeToString())


def to_onnx(
    detector: Detector, size_px: tuple[int, int] | None = None, end_to_end: bool = False
) -> OnnxGraph:
    """Return the graph of a detector for images of `size_px` (height, width), or of any size.

    Raises ConfigError for a model that cannot be exported, ExtraMissingError without the libraries
    of the extra `onnx`.
    """
    require_libraries()
    card = exported_card(detector, size_px, end_to_end)
    traced = (DecodedDetector if end_to_end else TracedDetector)(detector).eval()
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
    import onnx

    onnx.helper.set_model_props(model, {KEY: card.to_json()})
    model.producer_name, model.producer_version = "setmatch", str(card.made_with["setmatch"])
    return OnnxGraph(model, program.exported_program)


def exported_card(
    detector: Detector, size_px: tuple[int, int] | None, end_to_end: bool
) -> ExportedCard:
    """Return the card for the exported file of a detector."""
    if not detector.has_queries:
        raise ConfigError(
            f"model {detector.card.preset}: a baseline of torchvision, which is not exported; "
            "export a detection transformer (see setmatch models)"
        )
    preprocessing = detector.card.preprocessing
    if size_px is not None:
        preprocessing = dataclasses.replace(preprocessing, size_px=size_px)
    card: ModelCard = dataclasses.replace(detector.card, preprocessing=preprocessing)
    state = {key: value.detach().contiguous() for key, value in detector.state_dict().items()}
    versions = {name: importlib.metadata.version(name) for name in ("setmatch", "torch", "onnx")}
    return ExportedCard(
        card,
        hashlib.sha256(save(state)).hexdigest(),
        _loss_settings(detector.class_loss, detector.card.preset),
        detector.num_queries,
        detector.fixed_queries,
        detector.has_masks,
        end_to_end,
        detector.default_threshold,
        {**versions, "opset": OPSET},
    )


def require_libraries() -> None:
    """Raise ExtraMissingError without the libraries that write and check ONNX files."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ExtraMissingError(
                f"to export to ONNX needs {name}; install it with: pip install 'setmatch[onnx]'"
            ) from None


def _loss_settings(loss: ClassificationLoss, preset: str) -> dict[str, Any]:
    """Return the name and settings of a classification loss."""
    for name, kind in CLASSIFICATION_LOSSES.items():
        if type(loss) is kind:
            return {"name": name, **dataclasses.asdict(loss)}
    raise ConfigError(
        f"model {preset}: its classification loss {type(loss).__name__} cannot be named in a file; "
        f"use one of setmatch.losses: {', '.join(CLASSIFICATION_LOSSES)}"
    )


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
