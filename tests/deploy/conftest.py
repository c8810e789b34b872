"""Models and files that the tests of export share; writing one takes several seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from checked_types import unchecked
from setmatch.deploy.export import export
from setmatch.deploy.onnx import OnnxGraph, to_onnx
from setmatch.deploy.openvino import converted
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
def scenes_onnx(scenes_n: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector as an end-to-end file for images of any size."""
    path = tmp_path_factory.mktemp("exported") / "scenes.onnx"
    with unchecked():
        export(scenes_n, path, end_to_end=True)
    return path


@pytest.fixture(scope="session")
def scenes_xml(scenes_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector as an end-to-end model of OpenVINO for images of any size."""
    path = tmp_path_factory.mktemp("openvino") / "scenes.xml"
    converted(OnnxGraph(onnx.load(scenes_onnx), None)).save(path)
    return path


@pytest.fixture(scope="session")
def fixed(scenes_n: Detector) -> OnnxGraph:
    """The graph for images of one size."""
    with unchecked():
        return to_onnx(scenes_n, SIZE_PX)


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
