"""Place the labels of boxes on an image, so that each can be read."""

from collections.abc import Sequence

Pixels = float | int
Rectangle = tuple[Pixels, Pixels, Pixels, Pixels]  # x0, y0, x1, y1

_MAX_COVERED = 0.05  # of a label's area, by the labels before it


def place_labels(
    boxes: Sequence[Rectangle],
    sizes_px: Sequence[tuple[Pixels, Pixels]],
    image_size_px: tuple[Pixels, Pixels],
) -> list[Rectangle | None]:
    """Return the place of each box's label, inside the image and at a corner of its box.

    `sizes_px` are the (width, height) of the labels, `image_size_px` those of the image. Labels
    come in the order of their importance: None means that the labels before it leave no free place.
    """
    places: list[Rectangle | None] = []
    taken: list[Rectangle] = []
    for (x0, y0, x1, y1), (width, height) in zip(boxes, sizes_px, strict=True):
        corners = (
            moved_inside((x, y, x + width, y + height), image_size_px)
            for y in (y0 - height, y0, y1 - height, y1)
            for x in (x0, x1 - width)
        )
        most = _MAX_COVERED * width * height
        free = next((place for place in corners if covered_px(place, taken) <= most), None)
        places.append(free)
        if free is not None:
            taken.append(free)
    return places


def moved_inside(place: Rectangle, image_size_px: tuple[Pixels, Pixels]) -> Rectangle:
    """Return a rectangle of the same size, moved as little as needed to lie inside the image.

    One that is larger than the image starts at its top left.
    """
    x0, y0, x1, y1 = place
    left = max(0.0, min(x0, image_size_px[0] - (x1 - x0)))
    top = max(0.0, min(y0, image_size_px[1] - (y1 - y0)))
    return left, top, left + x1 - x0, top + y1 - y0


def covered_px(place: Rectangle, others: Sequence[Rectangle]) -> Pixels:
    """Return the area of `place` that other rectangles cover; where two do, it counts twice."""
    x0, y0, x1, y1 = place
    return sum(
        max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))
        for u0, v0, u1, v1 in others
    )
