"""Nothing in a file of weights is ever run, in whatever way it is hidden there."""

import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import hostile_pickles
import setmatch
from hostile_pickles import EXPLODED, FORMATS, KINDS, hostile
from setmatch.errors import WeightsError


@pytest.mark.parametrize("kind", KINDS)
def test_a_careless_reader_would_run_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Otherwise the tests below would show nothing."""
    hostile_pickles.write(tmp_path / "evil.pkl", [hostile(kind)], kind, "pickle")
    monkeypatch.chdir(tmp_path)
    with suppress(TypeError, AttributeError):  # what comes after the code may fail
        pickle.loads(Path("evil.pkl").read_bytes())
    assert Path(EXPLODED).exists()


@pytest.mark.promise(18)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_would_run_code_are_refused(
    kind: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As the whole file, as a tensor, and in the settings beside the tensors."""
    monkeypatch.chdir(tmp_path)
    evil, weights = hostile(kind), {"model": {"a": torch.zeros(2)}}
    for tree in (evil, {"model": {"a": evil}}, {**weights, "args": evil}, {"a": [evil]}):
        hostile_pickles.write(Path("evil.pth"), tree, kind, format)
        with pytest.raises(WeightsError, match=r"evil\.pth: (refused|damaged|expected|.*not a)"):
            setmatch.load("evil.pth")
        assert not Path(EXPLODED).exists()
