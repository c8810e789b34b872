"""Images of a page: JPEG data URIs, and boxes that the browser draws over them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from setmatch.ops.label_placement import place_labels

_LETTER_WIDTH = 0.62  # mean, as a fraction of the letter height


@dataclass(frozen=True)
class Box:
    """A box to draw over an image, in pixels of the image; pointing at it shows `title`.

    `dash` is the pattern of its line, as SVG's stroke-dasharray.
    """

    x: float
    y: float
    width: float
    height: float
    color: str
    title: str
    dash: str = ""

    @classmethod
    def from_xywh(cls, xywh_px: Sequence[float], color: str, title: str, dash: str = "") -> "Box":
        """Return a box from its top left corner and size; a negative size becomes 0."""
        x, y, width, height = xywh_px
        return cls(x, y, max(width, 0.0), max(height, 0.0), color, title, dash)


@dataclass(frozen=True)
class Label:
    """A text over an image, in pixels of the image: where it starts, and its baseline."""

    x: float
    y: float
    text: str


def jpeg_uri(pixels: UInt8[Tensor, "3 H W"], long_side_px: int = 720, quality: int = 80) -> str:
    """Return an image as a data: URI, shrunk until its long side is at most `long_side_px`."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((long_side_px, long_side_px))
    return image_uri(image, "JPEG", quality=quality)


def image_uri(image: Image.Image, form: str, **options: Any) -> str:
    """Return an image as a data: URI, in a `form` of Pillow with its options."""
    encoded = io.BytesIO()
    image.save(encoded, form, **options)
    data = base64.b64encode(encoded.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{data}"


def labels_of(
    boxes: Sequence[tuple[Box, str]], size_px: tuple[int, int], letter_px: float
) -> list[Label]:
    """Return the labels of boxes, most important first, over an image of this (height, width).

    Letters are `letter_px` high. A label without a free place at its box is left out; pointing at
    the box still shows its title.
    """
    named = [(box, text) for box, text in boxes if text]
    places = place_labels(
        [(box.x, box.y, box.x + box.width, box.y + box.height) for box, _ in named],
        [(letter_px * (_LETTER_WIDTH * len(text) + 0.5), 1.25 * letter_px) for _, text in named],
        (size_px[1], size_px[0]),
    )
    return [
        Label(round(place[0] + letter_px / 4, 1), round(place[1] + letter_px, 1), text)
        for place, (_, text) in zip(places, named, strict=True)
        if place is not None
    ]


def largest_first(boxes: Sequence[Box]) -> list[Box]:
    """Order boxes for drawing, so that a small box stays reachable over a large one."""
    return sorted(boxes, key=lambda box: -box.width * box.height)
