"""Models and files that the tests of export share; writing one takes several seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from checked_types import unchecked
from setmatch.deploy.export import export
from setmatch.deploy.formats.onnx import OnnxGraph, to_onnx
from setmatch.deploy.formats.openvino import OpenVinoGraph, converted
from setmatch.models.detector import Detector
from setmatch.models.load import load

SIZE_PX = (96, 128)


@pytest.fixture(autouse=True)
def unchecked_shapes() -> Iterator[None]:
    """Disable shape checks, which tracing cannot go through."""
    with unchecked():
        yield


@pytest.fixture(scope="session")
def scenes_n() -> Detector:
    """A trained detector of generated scenes."""
    return load("scenes_n")


@pytest.fixture(scope="session")
def trace(scenes_n: Detector) -> torch.onnx.ONNXProgram:
    """The detector as traced for images of any size, before anything of ours is added."""
    traced: list[torch.onnx.ONNXProgram] = []

    def keep(*positional: Any, **named: Any) -> torch.onnx.ONNXProgram:
        traced.append(tracing(*positional, **named))
        return traced[0]

    tracing = torch.onnx.export
    with unchecked(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", keep)
        to_onnx(scenes_n)
    return traced[0]


@pytest.fixture(scope="session")
def scenes_onnx(
    scenes_n: Detector, trace: torch.onnx.ONNXProgram, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The detector as an end-to-end file for images of any size."""
    path = tmp_path_factory.mktemp("exported") / "scenes.onnx"
    with unchecked(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", lambda *positional, **named: trace)
        export(scenes_n, path, end_to_end=True)
    return path


@pytest.fixture(scope="session")
def scenes_xml(scenes_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector as an end-to-end model of OpenVINO for images of any size."""
    path = tmp_path_factory.mktemp("openvino") / "scenes.xml"
    converted(OnnxGraph(onnx.load(scenes_onnx), None)).save(path)
    return path


@pytest.fixture(scope="session")
def fixed(scenes_n: Detector, trace: torch.onnx.ONNXProgram) -> OnnxGraph:
    """The graph for images of one size, written into that of any, for tracing takes seconds."""
    with unchecked(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", lambda *positional, **named: trace)
        graph = to_onnx(scenes_n, SIZE_PX)
    (pixels,) = graph.model.graph.input
    for axis, size in zip((2, 3), SIZE_PX, strict=True):
        pixels.type.tensor_type.shape.dim[axis].dim_value = size
    del graph.model.graph.value_info[:]  # shapes of any size
    return graph


@pytest.fixture(scope="session")
def fixed_openvino(fixed: OnnxGraph) -> OpenVinoGraph:
    """The same for OpenVINO."""
    return converted(fixed)


@pytest.fixture(scope="session")
def with_noise() -> Callable[[OnnxGraph, str], OnnxGraph]:
    """A function that returns a graph with other weights in one part of the model."""
    return _with_noise


def _with_noise(graph: OnnxGraph, part: str) -> OnnxGraph:
    """The graph with other weights in one part of the model."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    (tensor,) = (each for each in model.graph.initializer if each.name.endswith(part))
    values = onnx.numpy_helper.to_array(tensor)
    noise = np.random.default_rng(0).normal(0, 0.3, values.shape).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values + noise, tensor.name))
    return OnnxGraph(model, graph.program)
