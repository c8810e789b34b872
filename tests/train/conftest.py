"""Lets the tests of training import their tiny detector, which also runs as a script."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny

from setmatch.models.presets import MODELS


@pytest.fixture(autouse=True, scope="module")
def tiny_presets():
    """Let the tiny detectors be named in recipes, here only."""
    MODELS.update(tiny.PRESETS)
    yield
    for name in tiny.PRESETS:
        del MODELS[name]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Ten training pictures; the file alone, so that none is held out for validation."""
    return tiny.write_data(tmp_path_factory.mktemp("data")) / "annotations/train.json"
