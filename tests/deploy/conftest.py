"""Models and files that the tests of export share; writing one takes several seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from checked_types import unchecked
from setmatch.deploy.export import export
from setmatch.models.detector import Detector
from setmatch.models.load import load


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
