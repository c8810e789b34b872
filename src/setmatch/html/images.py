"""Images of a page: JPEG data URIs, and boxes that the browser draws over them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """A box to draw over an image, in pixels of the image; pointing at it shows `title`."""

    x: float
    y: float
    width: float
    height: float
    color: str
    title: str
    dashed: bool = False

    @classmethod
    def from_xywh(
        cls, xywh_px: Sequence[float], color: str, title: str, dashed: bool = False
    ) -> "Box":
        """Return a box from its top left corner and size; a negative size becomes 0."""
        x, y, width, height = xywh_px
        return cls(x, y, max(width, 0.0), max(height, 0.0), color, title, dashed)


def jpeg_uri(pixels: UInt8[Tensor, "3 H W"], long_side_px: int = 720, quality: int = 80) -> str:
    """Return an image as a data: URI, shrunk until its long side is at most `long_side_px`."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((long_side_px, long_side_px))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def largest_first(boxes: Sequence[Box]) -> list[Box]:
    """Order boxes for drawing, so that a small box stays reachable over a large one."""
    return sorted(boxes, key=lambda box: -box.width * box.height)
