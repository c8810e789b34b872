"""Weights that hold NaN or infinity are refused, whichever family and file they are of."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import setmatch
from setmatch.errors import WeightsError
from setmatch.models.load import convert_weights, save
from setmatch.structures.metadata import Categories, Preprocessing
from small_families import PRESETS, small_model
from thorough import usually

NAMES = Categories((1, 2), ("cat", "dog"))
SIZE = Preprocessing(64, 64)
NOT_FINITE = [float("nan"), float("inf"), -float("inf")]


def _poison(model: torch.nn.Module, kind: str, value: float) -> str:
    """Put one number into the middle of the last tensor whose name ends in `kind`."""
    state = model.state_dict()
    name = [key for key in state if key.endswith(kind)][-1]
    numbers = state[name].reshape(-1)
    numbers[len(numbers) // 2] = value
    return name


@pytest.mark.parametrize("family", usually(PRESETS, "DETR", "D-FINE", "setmatch"))
def test_a_model_with_a_number_that_is_not_finite_is_refused_by_the_tensors_name(
    family: str, tmp_path: Path
):
    model = small_model(family, NAMES, SIZE)
    name = _poison(model, "weight", float("nan"))
    save(model, tmp_path)
    with pytest.raises(WeightsError, match=rf"1 of \d+ tensors have .* not finite: {name};"):
        setmatch.load(tmp_path)


@pytest.mark.crossed
@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("kind", ["weight", "bias", "running_mean", "running_var"])
def test_every_kind_of_tensor_counts(kind: str, value: float, tmp_path: Path):
    model = small_model("setmatch", NAMES, SIZE)
    name = _poison(model, kind, value)
    save(model, tmp_path)
    with pytest.raises(WeightsError, match=f"not finite: {name}"):
        setmatch.load(tmp_path)


def test_many_tensors_are_counted_and_three_are_named(tmp_path: Path):
    model = small_model("setmatch", NAMES, SIZE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    save(model, tmp_path / "model")
    with pytest.raises(WeightsError) as error:
        setmatch.load(tmp_path / "model")
    assert f" and {len(list(model.parameters())) - 3} more; " in str(error.value)
    assert len(str(error.value)) < 500
    with pytest.raises(WeightsError, match="not finite"):
        convert_weights(tmp_path / "model", tmp_path / "other", "setmatch")
    assert not (tmp_path / "other").exists()


def test_a_published_file_is_held_to_it_too(tmp_path: Path):
    """Numbers that are only too large for float32 become infinite on the way."""
    model = small_model("D-FINE", NAMES, SIZE)
    save(model, tmp_path / "model")
    convert_weights(tmp_path / "model", tmp_path / "d.pth", "original")
    content = torch.load(tmp_path / "d.pth", weights_only=True)
    tensors = content["ema"]["module"] if "ema" in content else content["model"]
    name = next(key for key in tensors if key.endswith("layers.0.weight"))
    tensors[name] = torch.full(tensors[name].shape, 1e300, dtype=torch.float64)
    torch.save(content, tmp_path / "d.pth")
    with pytest.raises(WeightsError, match=r"1 of .* not finite"):
        setmatch.load(tmp_path / "d.pth", preset="dfine_s")


@pytest.mark.parametrize("value", [0.0, 3e38, -3e38, 1e-45])
def test_any_finite_number_is_taken(value: float, tmp_path: Path):
    model = small_model("setmatch", NAMES, SIZE)
    save(model, tmp_path)
    file = tmp_path / "model.safetensors"
    name = _poison(model, "weight", value)
    save(model, tmp_path)
    assert (load_file(file)[name] == torch.tensor(value)).any()
    assert setmatch.load(tmp_path).card.preset == "setmatch_n"
