"""int8 weights: the rounding error, and what stays unchanged."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from quick_weights import all_different
from setmatch.models.load import convert_weights, load, save
from setmatch.models.registry import build
from setmatch.models.weights.int8 import compact, expand
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-30, 30), st.integers(0, 99))
def test_the_rounding_error_is_half_a_step_of_the_row(
    rows: int, columns: int, power: int, seed: int
):
    """At most 1/254 of the row's largest entry, at any scale; zeros stay zero."""
    torch.manual_seed(seed)
    matrix = torch.randn(rows, columns) * 2.0**power
    matrix[0] = 0
    back = expand(compact({"m": matrix}))["m"]
    largest = matrix.abs().amax(1, keepdim=True)
    assert ((back - matrix).abs() <= largest / 254 * (1 + 1e-5)).all()
    assert not back[0].any()


def test_one_dimensional_tensors_and_integers_are_unchanged():
    state = {"norm.bias": torch.randn(5), "steps": torch.tensor(3), "ids": torch.ones(2, 2).long()}
    back = expand(compact(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())


def test_int8_weights_load_like_any_others(tmp_path):
    """A third of the bytes or less, and nearly the same predictions."""
    torch.manual_seed(0)
    with all_different():
        model = build(ModelCard("setmatch_n", {}, Categories((4, 7), ("a", "b")))).eval()
    save(model, tmp_path / "full")
    convert_weights(tmp_path / "full", tmp_path / "small", "setmatch-small")
    full, small = (tmp_path / name / "model.safetensors" for name in ("full", "small"))
    assert small.stat().st_size < full.stat().st_size / 3
    assert any(value.dtype == torch.int8 for value in load_file(small).values())
    batch = Batch.from_images([torch.rand(3, 64, 96)])
    with torch.no_grad():
        ours, theirs = (load(each)(batch)[0].predictions.logits[-1] for each in (full, small))
    # Queries come in the order of their first scores, which may change places.
    assert torch.allclose(ours.sort(1).values, theirs.sort(1).values, atol=0.02)
