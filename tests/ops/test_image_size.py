"""Images are resized to the published sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.ops.image_size import evaluation_px, resized_px
from setmatch.structures.metadata import Preprocessing


def published_size(size_px: tuple[int, int], size: int, max_size: int) -> tuple[int, int]:
    """The rule as in the published code, on (width, height)."""
    h, w = size_px
    min_original, max_original = float(min((w, h))), float(max((w, h)))
    if max_original / min_original * size > max_size:
        size = round(max_size * min_original / max_original)
    if (w <= h and w == size) or (h <= w and h == size):
        return (h, w)
    if w < h:
        return (int(size * h / w), size)
    return (size, int(size * w / h))


SIDES = st.integers(1, 5000)


@given(st.tuples(SIDES, SIDES), st.integers(16, 1000), st.integers(1000, 2000))
def test_sizes_follow_the_published_rule(size_px: tuple[int, int], short: int, long: int):
    """To the pixel, for every shape whose short side does not vanish."""
    if round(long * min(size_px) / max(size_px)) >= 1:
        assert resized_px(size_px, short, long) == published_size(size_px, short, long)


@pytest.mark.parametrize(
    ("size_px", "expected"),
    [((480, 640), (800, 1066)), ((640, 480), (1066, 800)), ((300, 1000), (400, 1333))],
)
def test_the_papers_example_size(size_px: tuple[int, int], expected: tuple[int, int]):
    """480×640 becomes 800×1066."""
    assert evaluation_px(size_px, Preprocessing()) == expected


def test_very_thin_images_keep_a_pixel_and_stay_small():
    assert evaluation_px((1, 20000), Preprocessing()) == (1, 1333)
    assert evaluation_px((20000, 1), Preprocessing()) == (1333, 1)
