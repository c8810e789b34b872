"""Truncations and bit flips of the checkpoints that a real run wrote."""

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from real_runs import RealRun, write_data

from setmatch.training.checkpoints.checkpoint import latest_valid


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of setmatch_n with two checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    code, said = RealRun(write_data(folder / "data"), folder / "run").wait()
    assert code == 0, said
    return folder / "run"


def truncate(file, chance):
    file.truncate(chance.randrange(file.seek(0, os.SEEK_END)))


def flip_bit(file, chance):
    place = chance.randrange(file.seek(0, os.SEEK_END))
    file.seek(place)
    (byte,) = file.read(1)
    file.seek(place)
    file.write(bytes([byte ^ 1 << chance.randrange(8)]))


@pytest.mark.campaign
@pytest.mark.promise(2, cases=50)
@pytest.mark.parametrize("damage", [truncate, flip_bit])
@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "trainer.pt", "manifest.json"])
def test_damage_of_a_real_checkpoint_is_noticed(run, name, damage):
    """Each of 50 cases a file is named, and the checkpoint before is used."""
    newest = latest_valid(run)
    path, chance = newest.folder / name, random.Random(name)
    whole = path.read_bytes()
    for _ in range(50):
        with path.open("r+b") as file:
            damage(file, chance)
        with pytest.warns(UserWarning, match=rf"{newest.folder.name}.{name}: "):
            assert latest_valid(run).step < newest.step
        path.write_bytes(whole)
    assert latest_valid(run).step == newest.step
