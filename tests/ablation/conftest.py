"""Makes benchmark scripts importable, since they are not a package."""

from pathlib import Path

import pytest

from setmatch.models.registry import MODELS


@pytest.fixture
def benchmarks(monkeypatch):
    """Make benchmarks importable, and unregister their models afterwards."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    registered = dict(MODELS)
    yield
    MODELS.clear()
    MODELS.update(registered)
