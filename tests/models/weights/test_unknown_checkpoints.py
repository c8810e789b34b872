"""Checkpoints of families that are not known, or of known ones with other tensors: one line."""

import pickle
from pathlib import Path

import pytest
import torch

import setmatch
from setmatch.cli import main
from setmatch.errors import WeightsError
from setmatch.models.registry import LAYOUTS


def _error(state: dict[str, torch.Tensor], tmp_path: Path) -> str:
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(WeightsError) as caught:
        setmatch.load(tmp_path / "model.pth")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_family_is_named_once(tmp_path: Path):
    error = _error({"vit.embeddings.cls_token": torch.ones(1)}, tmp_path)
    families = {layout.family for layout in LAYOUTS}
    assert len(families) == 9
    named = error.partition("fit none of the layouts of ")[2].split(", ")
    assert sorted(named) == sorted(families)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda each: f"{each.family}-{each.name}")
def test_the_nearest_family_is_named_with_what_differs(layout, tmp_path: Path):
    """All but the first of its tensors, by which it would be recognized, and another one."""
    values = {"i": "0", "j": "0", "k": "0", "n": "1", "at": "layer1.0.", "leaf": "weight"}
    names = [theirs.partition("#")[0].format(**values) for _, theirs in layout.table]
    names = [name for name in dict.fromkeys(names) if not _recognizes(name)]
    error = _error({name: torch.ones(1) for name in [*names, "stranger"]}, tmp_path)
    assert f"nearest is {layout.family}" in error
    assert f"names for {len(names)} of {len(names) + 1} tensors; not for 'stranger'" in error
    assert "missing: " in error


def test_more_tensors_than_any_detector_has_are_not_compared(tmp_path: Path):
    """Each name would be matched with those of all layouts."""
    known = {"level_embed": torch.ones(1)}
    many = {f"part.{number}": torch.ones(1) for number in range(5001)}
    assert "nearest" not in _error(many | known, tmp_path)


def _recognizes(name: str) -> bool:
    """Whether some layout looks for this tensor, whatever it finds of others."""
    asked: set[object] = set()

    class Asked(set):
        def __init__(self, answer: bool) -> None:
            self.answer = answer

        def __contains__(self, key: object) -> bool:
            asked.add(key)
            return self.answer

    for layout in LAYOUTS:
        for answer in (True, False):
            layout.matches(Asked(answer))
    return name in asked


def test_a_pickle_of_another_kind_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "model.pth").write_bytes(pickle.dumps(Path("x")))
    assert main(["convert-weights", str(tmp_path / "model.pth"), "out", "--to", "setmatch"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
