"""Compressed attention maps: unpacking restores them, as finely as the budget allows."""

import base64
import zlib
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.explanation.compression import (
    pack,
    pack_cross_attention,
    pack_encoder_attention,
    pool,
)

ROOMY = 10_000_000


def unpacked(packed: dict[str, Any]) -> torch.Tensor:
    """The rows of a packed map, as decode.js reads them."""
    peaks = np.frombuffer(zlib.decompress(base64.b64decode(packed["peaks"])), dtype="<f4")
    data = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), dtype=np.uint8)
    rows = data.reshape(len(peaks), -1).astype(np.float32) / packed["grays"]
    return torch.from_numpy(rows * peaks[:, None])


def random_attention(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).softmax(-1)


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 30))
@settings(max_examples=25)
def test_unpacking_restores_a_map(seed: int, rows: int, cells: int):
    """The error of a cell is at most half a gray step of its own map's peak."""
    maps = random_attention(rows, cells, seed=seed)
    off = (unpacked(pack(maps)) - maps).abs()
    assert (off <= maps.amax(1, keepdim=True) * (0.5 / 255 + 1e-5)).all()


def test_an_empty_map_stays_empty():
    assert unpacked(pack(torch.zeros(2, 3))).tolist() == [[0.0] * 3] * 2


def test_cross_attention_keeps_the_order_of_layers_heads_and_queries():
    """Row (layer · heads + head) · queries + query is that query's map."""
    weights = random_attention(2, 3, 4, 6)
    rows = unpacked(pack_cross_attention(weights, (2, 3), ROOMY))
    torch.testing.assert_close(rows[(1 * 3 + 2) * 4 + 1], weights[1, 2, 1], atol=2e-3, rtol=0)


def test_encoder_attention_keeps_the_order_of_layers_and_cells():
    """Row layer · cells + cell is the map of that cell."""
    encoder = random_attention(2, 6, 6)
    rows = unpacked(pack_encoder_attention(encoder, (2, 3), ROOMY))
    torch.testing.assert_close(rows[6 + 4], encoder[1, 4], atol=2e-3, rtol=0)


def test_maps_get_coarser_until_they_fit_the_budget():
    """The number of grays is reduced before the number of cells."""
    weights = random_attention(2, 4, 20, 30 * 40)
    sizes = []
    for budget in (ROOMY, 150_000, 40_000):
        packed = pack_cross_attention(weights, (30, 40), budget)
        sizes.append((packed["pooling"], packed["grays"]))
        assert len(packed["data"]) + len(packed["peaks"]) <= budget
        cells = packed["grid"][0] * packed["grid"][1]
        assert unpacked(packed).shape == (160, cells)
    assert sizes[0] == (1, 255)
    assert sizes[1][0] == 1
    assert sizes[1][1] < 255
    assert sizes[2][0] > 1


def test_pooling_keeps_position_and_sum():
    lit = torch.zeros(1, 8 * 12)
    lit[0, 5 * 12 + 9] = 1.0
    small = pool(lit, (8, 12), 2)
    assert int(small.argmax()) == 2 * 6 + 4
    torch.testing.assert_close(small.sum(), torch.tensor(1.0))


def test_a_pooled_cell_has_the_average_map_of_its_cells():
    encoder = torch.zeros(1, 16, 16)
    encoder[0, :, 5] = torch.linspace(0.71, 1.0, 16)  # every cell attends to row 1, column 1,
    encoder[0, :, 15] = 1 - encoder[0, :, 5]  # and a little at the last row and column
    packed = pack_encoder_attention(encoder, (4, 4), budget=110)
    assert (packed["pooling"], packed["grid"]) == (2, (2, 2))
    near = encoder[0, :, 5].view(2, 2, 2, 2).mean((1, 3)).flatten()
    expected = torch.zeros(4, 4)
    expected[:, 0], expected[:, 3] = near, 1 - near
    torch.testing.assert_close(unpacked(packed), expected, atol=0.02, rtol=0)
