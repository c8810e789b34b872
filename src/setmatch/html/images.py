"""Pictures inside a page: small JPEG files as text, and boxes drawn over them by the browser."""

import base64
import html
import io
from collections.abc import Sequence

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor


def jpeg_uri(pixels: UInt8[Tensor, "3 H W"], long_side_px: int = 720) -> str:
    """Return a picture as a data: URI for an `img`, its long side at most `long_side_px`."""
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((long_side_px, long_side_px))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"


def boxes(
    xywh_px: Sequence[Sequence[float]],
    names: Sequence[str],
    colors: Sequence[str],
    size_px: tuple[int, int],
) -> str:
    """Return boxes to lie over a picture of (height, width) `size_px`, larger ones below.

    Each answers with its name when pointed at.
    """
    order = sorted(range(len(names)), key=lambda k: -xywh_px[k][2] * xywh_px[k][3])
    parts = [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
        f'stroke="{colors[number]}"><title>{html.escape(names[number])}</title></rect>'
        for number in order
        for x, y, width, height in [xywh_px[number]]
    ]
    height, width = size_px
    return f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(parts)}</svg>'
