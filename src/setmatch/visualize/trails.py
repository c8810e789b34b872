"""Draw where tracked objects were, on a frame of a video."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from PIL import Image, ImageDraw

from setmatch.ops.colors import color_of

_FAINTEST, _STRONGEST = 40, 230  # opacity of the oldest and of the latest part


def draw_trails(
    image: Image.Image, trails: Mapping[int, Sequence[tuple[float, float]]]
) -> Image.Image:
    """Draw a line through the points (x, y) in pixels of each track, oldest first, onto `image`.

    The color is that of the track's number. Returns the image.
    """
    canvas = ImageDraw.Draw(image, "RGBA")
    width = max(2, round(min(image.size) / 220))
    for number, points in trails.items():
        steps = max(len(points) - 1, 1)
        for place, (start, end) in enumerate(pairwise(points), 1):
            opacity = _FAINTEST + (_STRONGEST - _FAINTEST) * place // steps
            canvas.line((start, end), fill=(*color_of(number), opacity), width=width)
    return image
