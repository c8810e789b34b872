"""Write a detector as an OpenVINO model: .xml and .bin, converted from our ONNX graph."""

import dataclasses
import errno
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from setmatch.data.dataset import DetectionDataset
from setmatch.deploy.formats.base import INNER, ExportFormat
from setmatch.deploy.formats.onnx import OnnxGraph, exported_of, to_onnx, value_names
from setmatch.deploy.precision.int8_openvino import nncf_library, with_int8_convolutions
from setmatch.deploy.precision.precision import Lower
from setmatch.deploy.verification.first_difference import first_difference
from setmatch.errors import ConfigError, short
from setmatch.inference.engines.exported_card import KEY, ExportedCard
from setmatch.inference.engines.openvino import OpenVinoEngine
from setmatch.inference.engines.openvino_session import (
    WEIGHTS_KEY,
    OpenVinoSession,
    compiled,
    openvino_library,
    read_model,
    sha256_of_weights,
    weights_of,
)
from setmatch.models.detector import Detector

if TYPE_CHECKING:
    import numpy as np
    import onnx


@dataclass(frozen=True)
class OpenVinoGraph:
    """A model of OpenVINO with its card, and the ONNX graph that it was made from."""

    model: Any
    card: ExportedCard
    source: OnnxGraph

    def save(self, path: Path) -> None:
        """Write the .xml file, and the .bin file beside it, whose SHA-256 the .xml file has."""
        _write(self.model, self.card, path)

    def first_difference(self, pixels: Float[Tensor, "B 3 H W"]) -> str:
        """Return which part first differs from PyTorch in OpenVINO, as a sentence.

        A model that returns all values is compiled with fewer fused operations.
        """
        openvino = openvino_library("to run OpenVINO models needs openvino")
        network = self.source.network
        model = _converted(openvino, network)
        values = {
            name: value
            for operation in model.get_ops()
            for value in operation.outputs()
            for name in value.get_names()
        }
        names = [name for name in value_names(network) if name in values]

        def run(wanted: Sequence[str]) -> "list[np.ndarray]":
            own = {name for each in model.outputs for name in each.get_names()}
            model.add_outputs([values[name] for name in wanted if name not in own])
            results = compiled(openvino, model)({"pixels": pixels.numpy()})
            return [results[name] for name in wanted]

        return first_difference(names, run, self.source.program, pixels)


def to_openvino(
    detector: Detector, size_px: tuple[int, int] | None = None, end_to_end: bool = False
) -> OpenVinoGraph:
    """Return the model of a detector for images of `size_px` (height, width), or of any size.

    It needs the libraries of the extra `openvino`. Raises ConfigError for a model that cannot be
    exported.
    """
    return converted(to_onnx(detector, size_px, end_to_end))


def converted(source: OnnxGraph) -> OpenVinoGraph:
    """Return an ONNX graph as a model of OpenVINO."""
    openvino = openvino_library("to convert to OpenVINO needs openvino")
    card = exported_of(source.model)
    version = importlib.metadata.version("openvino")
    card = dataclasses.replace(card, made_with={**card.made_with, "openvino": version})
    return OpenVinoGraph(_converted(openvino, source.model), card, source)


def _converted(openvino: Any, model: "onnx.ModelProto") -> Any:
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]  # OpenVINO would copy the card as a whole into its rt_info
    try:
        converted = openvino.Core().read_model(bare.SerializeToString())
    except RuntimeError as error:
        reasons = [line for line in str(error).splitlines() if "with a message" in line]
        raise ConfigError(
            f"to openvino: OpenVINO cannot convert the model {short(' '.join(reasons), 200)}; "
            "export it to ONNX, or update openvino"
        ) from error
    for operation in converted.get_ops():
        if operation.get_type_name() == "Interpolate" and operation.get_attributes()["antialias"]:
            _smooth_as_pillow(openvino, operation)
    return converted


def _smooth_as_pillow(openvino: Any, resize: Any) -> None:
    """Replace the resizing of an image: OpenVINO ignores that a linear one is antialiased.

    It has the antialiased one of Pillow, which torchvision computes, too.
    """
    operations, whole = openvino.opset13, resize.output(0)
    image, size = (resize.input_value(number) for number in (0, 1))
    kind = whole.get_element_type()
    # In float32 and then rounded: in uint8, it is off by up to two levels.
    resized = operations.interpolate(
        operations.convert(image, "f32"),
        operations.slice(size, [2], [4], [1]),
        "bilinear_pillow",
        "sizes",
        axes=[2, 3],
    )
    same = operations.convert(operations.round(resized), kind.to_string())
    names = whole.get_names()
    for user in whole.get_target_inputs():
        user.replace_source_output(same.output(0))
    whole.set_names(set())
    same.output(0).set_names(names)


def _write(model: Any, card: ExportedCard, path: Path, in_half: bool = False) -> None:
    openvino = openvino_library("to write OpenVINO models needs openvino")
    model.set_rt_info(card.to_json(), KEY)
    try:
        openvino.save_model(model, str(path), compress_to_fp16=in_half)
        model.set_rt_info(sha256_of_weights(path), WEIGHTS_KEY)
        openvino.save_model(model, str(path), compress_to_fp16=in_half)
    except RuntimeError:  # which does not say more
        raise OSError(
            errno.EIO, "OpenVINO cannot write all of it; is the disk full?", str(path)
        ) from None


def _open_ends(path: Path) -> OpenVinoSession:
    return OpenVinoSession(path, inner=INNER)


def _half(path: Path, images: DetectionDataset) -> None:
    """Store the weights of a file in float16."""
    _rewrite(path, *read_model(path), in_half=True)


def _int8(path: Path, images: DetectionDataset) -> None:
    """Compute the convolutions of a file in int8."""
    model, card = read_model(path)
    _rewrite(path, with_int8_convolutions(model, card, images), card)


def _rewrite(path: Path, model: Any, card: ExportedCard, in_half: bool = False) -> None:
    """Replace both files; those of before may still be mapped into memory."""
    with TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder, path.name)
        _write(model, card, written, in_half)
        for each in (written, weights_of(written)):
            each.replace(path.parent / each.name)


OPENVINO = ExportFormat(
    "openvino",
    ".xml",
    (".bin",),
    ("openvino", "onnx", "onnxscript"),
    "openvino",
    to_openvino,
    OpenVinoEngine,
    _open_ends,
    {"half": Lower(_half), "int8": Lower(_int8, nncf_library)},
)
