"""Tests of data keep their cache out of the user's own cache folder."""

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
