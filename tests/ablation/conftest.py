"""Benchmarks are no package: tests that need one reach it here."""

from pathlib import Path

import pytest

from setmatch.models.registry import MODELS


@pytest.fixture
def benchmarks(monkeypatch):
    """Let benchmarks be imported, and forget their models afterwards."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    known = dict(MODELS)
    yield
    MODELS.clear()
    MODELS.update(known)
