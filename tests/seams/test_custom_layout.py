"""A checkpoint layout from outside the package: recognized, read and written."""

from pathlib import Path

import pytest
import torch

import setmatch
from setmatch.errors import WeightsError
from setmatch.models.load import convert_weights, save
from setmatch.models.registry import LAYOUTS, build
from setmatch.models.weights.layouts.key_map import State
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.structures.metadata import Categories, ModelCard

PREFIX = "net/"
PETS = Categories((0, 1), ("cat", "dog"))
SHAPE = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 5, "denoising_queries": 4}


def read(raw: RawCheckpoint) -> LoadedWeights:
    state = {key.removeprefix(PREFIX): value for key, value in raw.state.items()}
    arguments = {**SHAPE, "num_queries": raw.settings["queries"]}
    return LoadedWeights(ModelCard("setmatch_n", arguments, PETS), state, ("assumed its classes",))


def write(card: ModelCard, state: State, path: Path) -> None:
    tensors = {PREFIX + key: value for key, value in state.items()}
    torch.save({"model": tensors, "args": {"queries": card.arguments["num_queries"]}}, path)


LAYOUT = CheckpointLayout(
    "prefixed", lambda keys: all(k.startswith(PREFIX) for k in keys), read, write
)


def test_a_custom_layout_is_written_and_read_back(tmp_path: Path, caplog):
    model = build(ModelCard("setmatch_n", SHAPE, PETS))
    save(model, tmp_path / "ours")
    LAYOUTS.append(LAYOUT)
    try:
        convert_weights(tmp_path / "ours", tmp_path / "theirs.pth", "prefixed")
        loaded = setmatch.load(tmp_path / "theirs.pth")
    finally:
        LAYOUTS.remove(LAYOUT)
    assert loaded.card.arguments == model.card.arguments
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    assert "assumed its classes" in caplog.text
    with pytest.raises(WeightsError, match=r"theirs\.pth: .*fit none of the layouts of DETR, "):
        setmatch.load(tmp_path / "theirs.pth")
