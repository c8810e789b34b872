"""The color of each class, the same in images, charts and pages."""

import colorsys

Color = tuple[int, int, int]  # RGB, 0..255

# Distinct from each other and from gray. Neighbors in the list differ most.
_COLORS: tuple[Color, ...] = (
    (230, 57, 70),
    (38, 132, 255),
    (255, 183, 3),
    (46, 175, 96),
    (157, 78, 221),
    (255, 122, 24),
    (0, 180, 216),
    (239, 71, 165),
    (140, 196, 36),
    (94, 96, 206),
    (176, 110, 64),
    (0, 150, 136),
)
_GOLDEN_ANGLE = 0.381966  # of a full turn; multiples of it never repeat a hue


def color_of(class_index: int) -> Color:
    """Return the color of a class; it depends on the index alone."""
    if class_index < len(_COLORS):
        return _COLORS[class_index]
    # Saturation and value vary too, so that classes with similar hues differ.
    hue = (class_index * _GOLDEN_ANGLE) % 1
    red, green, blue = colorsys.hsv_to_rgb(
        hue, (0.85, 0.6)[class_index % 2], (0.95, 0.8)[class_index // 2 % 2]
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def css_color_of(class_index: int) -> str:
    """Return the color of a class as CSS writes it: #rrggbb."""
    return f"#{bytes(color_of(class_index)).hex()}"
