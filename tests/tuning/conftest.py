"""Searches with simulated trainings, or with a tiny detector of the training tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import tiny_runs
from simulation import Simulation

from setmatch.models.registry import BOX_PRESETS, MODELS
from setmatch.tuning import run_trial, tune

RATE = "train.lr=1e-5:1e-1:log"


@pytest.fixture(autouse=True, scope="module")
def tiny_presets():
    """Register the tiny detectors as presets, in this folder only."""
    MODELS.update(tiny_runs.PRESETS)
    BOX_PRESETS.update(tiny_runs.BOXES)
    yield
    for name in tiny_runs.PRESETS:
        del MODELS[name]
        BOX_PRESETS.pop(name, None)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Four images for training, four for validation."""
    folder = tmp_path_factory.mktemp("data")
    return tiny_runs.write_data(folder, images=4, splits=("train", "val"))


@pytest.fixture
def search(data, tmp_path):
    """Search with the tiny detector: `search("train.lr=1e-5:1e-1:log", trials=3)`."""

    def run(*searches, out=tmp_path / "search", **options):
        recipe = {**tiny_runs.RECIPE, "model": {"preset": "tiny", "init_weights": "none"}}
        options = {"data": data, "recipe": recipe, "device": "cpu", "trials": 3, **options}
        return tune(out=out, searches=searches or (RATE,), **options)

    return run


@pytest.fixture
def simulate(monkeypatch):
    """Let trainings be simulated, `simulate(lambda recipe, step: AP)`, as `Simulation` does."""

    def start(score, **options):
        simulation = Simulation(score, **options)
        monkeypatch.setattr(run_trial, "train", simulation)
        return simulation

    return start
