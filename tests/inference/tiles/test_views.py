"""Tiles cover an image, overlap as asked, and are no more than needed."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import setmatch as sm
from fake_detectors import RedFinder
from setmatch.cli.predict import predict as cli_predict
from setmatch.deploy.server.run import serve
from setmatch.errors import ConfigError
from setmatch.inference.tiles.views import Tiling, View, views_of

SIDES = st.integers(1, 900)


@given(SIDES, SIDES, st.integers(32, 400), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]))
def test_tiles_cover_the_image_and_overlap(height: int, width: int, side: int, overlap: float):
    whole, *tiles = views_of((height, width), Tiling(side, overlap))
    assert whole == View(0, 0, width, height)
    assert (tiles == []) == (max(height, width) <= side)
    seen = np.zeros((height, width), dtype=int)
    for tile in tiles:
        assert tile.size_px == (min(side, height), min(side, width))  # all of one shape
        assert 0 <= tile.x0 < tile.x1 <= width
        assert 0 <= tile.y0 < tile.y1 <= height
        seen[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
    assert not tiles or seen.min() >= 1
    for low, high in (("x0", "x1"), ("y0", "y1")):
        spans = sorted({(getattr(tile, low), getattr(tile, high)) for tile in tiles})
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end - start >= int(overlap * min(side, height, width)) - 1


@pytest.mark.parametrize(
    ("size_px", "side", "overlap", "tiles"),
    [
        ((640, 640), 640, 0.2, 0),
        ((641, 640), 640, 0.2, 2),
        ((1000, 1800), 1000, 0.2, 2),
        ((1000, 1801), 1000, 0.2, 3),
        ((3000, 4000), 640, 0.2, 6 * 8),
        ((200, 100), 100, 0.0, 2),
    ],
)
def test_there_are_no_more_tiles_than_needed(size_px, side: int, overlap: float, tiles: int):
    assert len(views_of(size_px, Tiling(side, overlap))) == 1 + tiles


@pytest.mark.parametrize(("side", "overlap"), [(31, 0.2), (0, 0.2), (-5, 0.2), (64, -0.1), (64, 1)])
def test_other_values_are_refused(side: int, overlap: float):
    with pytest.raises(ConfigError, match="tile"):
        Tiling(side, overlap)


PIXELS = np.zeros((64, 96, 3), np.uint8)
VERBS: dict[str, Callable[..., object]] = {
    "predict": lambda **choices: sm.predict(RedFinder().eval(), PIXELS, **choices),
    "predictor": lambda **choices: sm.Predictor(RedFinder().eval(), **choices)([PIXELS]),
    "video": lambda **choices: next(sm.predict_video(RedFinder().eval(), "no.mp4", **choices)),
    "serve": lambda **choices: serve("none", **choices),
    "command": lambda tiles=None, overlap=0.2: cli_predict(
        "none", "no.png", out=Path("no"), tiles=tiles, overlap=overlap
    ),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize("overlap", [2, -0.1, 0.91, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tiles", [None, 320, "auto"])
def test_an_overlap_out_of_range_is_refused_with_and_without_tiles(
    verb: Callable[..., object], overlap: float, tiles: int | str | None
):
    with pytest.raises(ConfigError, match=f"overlap = {overlap}: tiles overlap by 0 to 0.9"):
        verb(tiles=tiles, overlap=overlap)
