"""Makes the tiny detectors of the training tests available; tiny_runs also runs as a script."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import quick_runs
import tiny_runs

from checked_types import unchecked
from setmatch.models.registry import BOX_PRESETS, MODELS


@pytest.fixture(autouse=True, scope="module")
def tiny_presets():
    """Register the tiny detectors as presets, in this folder only."""
    presets = {**tiny_runs.PRESETS, "quick": quick_runs.quick}
    MODELS.update(presets)
    BOX_PRESETS.update(tiny_runs.BOXES)
    yield
    for name in presets:
        del MODELS[name]
        BOX_PRESETS.pop(name, None)


@pytest.fixture(autouse=True, scope="module")
def unchecked_shapes():
    """Checking shapes, which tests of models and losses do, would take a quarter of the time."""
    with unchecked():
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Ten training images, in a single file, so that none is held out for validation."""
    return tiny_runs.write_data(tmp_path_factory.mktemp("data")) / "annotations/train.json"
