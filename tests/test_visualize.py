"""Drawing of detections and segments on images."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from setmatch.ops.colors import color_of
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments
from setmatch.visualize.boxes import draw
from setmatch.visualize.labels import font_for, shortened
from setmatch.visualize.segments import draw_segments

PETS = Categories((1, 2), ("cat", "an animal with a very long name indeed"))


def detections(
    xyxy_px: list[list[float]], size_px: tuple[int, int], class_index: int = 0
) -> Detections:
    count = len(xyxy_px)
    return Detections(
        torch.tensor(xyxy_px).reshape(-1, 4),
        torch.linspace(0.9, 0.5, count),
        torch.full((count,), class_index),
        PETS,
        size_px,
    )


def gray(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    return (np.asarray(before.convert("RGB")) != np.asarray(after)).any(axis=-1)


def test_a_box_is_drawn_in_the_color_of_its_class():
    drawn = draw(gray(400, 300), detections([[100.0, 100.0, 300.0, 250.0]], (300, 400)))
    assert drawn.getpixel((200, 250)) == color_of(0)
    assert drawn.getpixel((100, 200)) == color_of(0)
    assert drawn.getpixel((200, 175)) == (128, 128, 128)


def test_the_given_image_is_not_changed():
    image = gray(400, 300)
    draw(image, detections([[100.0, 100.0, 300.0, 250.0]], (300, 400)))
    assert not changed(gray(400, 300), image).any()


def test_no_detections_draw_nothing():
    image = gray(40, 30)
    assert not changed(image, draw(image, detections([], (30, 40)))).any()


@pytest.mark.parametrize(
    "xyxy_px",
    [
        [0.0, 0.0, 399.0, 299.0],
        [-50.0, -50.0, 20.0, 20.0],
        [380.0, 0.0, 450.0, 10.0],
        [390.0, 290.0, 399.0, 299.0],
        [-500.0, 100.0, 900.0, 120.0],
    ],
)
def test_a_label_stays_inside_the_image(xyxy_px: list[float]):
    """It shows as many pixels as the label of a box in the middle."""
    one = detections([xyxy_px], (300, 400))
    color = np.array(color_of(0))
    middle = draw(gray(400, 300), detections([[150.0, 100.0, 200.0, 200.0]], (300, 400)))
    rows = np.asarray(middle)[80:98]  # the label above a box in the middle
    filled = (rows == color).all(-1).sum()
    drawn = np.asarray(draw(gray(400, 300), one))
    assert filled > 200
    assert (drawn == color).all(-1).sum() >= filled


def test_labels_do_not_cover_each_other():
    """Two labels on one box change nearly twice as many pixels as one."""
    box = [50.0, 100.0, 350.0, 250.0]
    one = changed(gray(400, 300), draw(gray(400, 300), detections([box], (300, 400)))).sum()
    two = changed(gray(400, 300), draw(gray(400, 300), detections([box, box], (300, 400)))).sum()
    box_alone = 2 * (300 + 150) * 4
    assert two - one > 0.5 * (one - box_alone) > 100


def test_the_labels_of_a_crowd_do_not_pile_up():
    """Twenty boxes at one place get the labels that fit; each box is drawn nevertheless."""
    boxes = [[100.0 + n, 100.0 + n, 180.0 + n, 170.0 + n] for n in range(20)]
    crowd = changed(gray(400, 300), draw(gray(400, 300), detections(boxes, (300, 400))))
    eight = changed(gray(400, 300), draw(gray(400, 300), detections(boxes[:8], (300, 400))))
    assert crowd[:60].sum() == 0
    assert crowd[119:190, 119:200].sum() > eight[119:190, 119:200].sum()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (40, 40), (2000, 1500)])
def test_images_of_any_size_can_be_drawn_on(size: tuple[int, int]):
    """Even if the class name is longer than the image."""
    width, height = size
    box = [0.0, 0.0, float(width), float(height)]
    assert (
        draw(gray(width, height), detections([box, box], (height, width), class_index=1)).size
        == size
    )


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_images_of_any_mode_are_returned_as_rgb(mode: str):
    drawn = draw(gray(100, 80).convert(mode), detections([[20.0, 30.0, 80.0, 70.0]], (80, 100)))
    assert drawn.mode == "RGB"
    assert drawn.getpixel((50, 70)) == color_of(0)


def test_degenerate_boxes_are_drawn():
    """Boxes without area, or with x1 < x0."""
    boxes = [[50.0, 50.0, 50.0, 50.0], [80.0, 70.0, 20.0, 10.0]]
    drawn = draw(gray(100, 80), detections(boxes, (80, 100)))
    assert drawn.getpixel((50, 50)) == color_of(0)


def test_classes_have_distinct_colors():
    """The first twelve are easy to distinguish, and no two of eighty are equal."""
    colors = np.array([color_of(class_index) for class_index in range(80)], dtype=float)
    apart = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(80)
    assert apart[:12, :12].min() > 70
    assert apart.min() > 5


def test_non_ascii_names_are_drawn_in_a_system_font():
    """Pillow's default font has no umlauts."""
    try:
        ImageFont.truetype("DejaVuSans.ttf", 12)
    except OSError:
        pytest.skip("no system font with umlauts")
    images = [np.asarray(draw(gray(200, 99), named(name))) for name in ("Käfer", "Kèfer")]
    assert (images[0] != images[1]).any()  # not the same placeholder


def named(name: str) -> Detections:
    categories = Categories((1,), (name,))
    xyxy_px = torch.tensor([[20.0, 30.0, 150.0, 90.0]])
    return Detections(
        xyxy_px, torch.ones(1), torch.zeros(1, dtype=torch.int64), categories, (99, 200)
    )


def painted(ids, classes, size=(120, 80)):
    segments = Segments(
        torch.as_tensor(ids, dtype=torch.int32),
        torch.tensor(classes, dtype=torch.int64),
        torch.ones(len(classes)),
        Categories((1, 2, 3), ("cat", "dog", "sky"), frozenset({2})),
    )
    return np.asarray(draw_segments(Image.new("RGB", size, (128, 128, 128)), segments)).astype(int)


def test_segments_tint_their_own_pixels_only():
    ids = np.zeros((80, 120))
    ids[20:60, 10:110] = 1
    pixels = painted(ids, [0])
    assert (pixels[ids == 0] == 128).all()
    assert (pixels[ids == 1] != 128).any(axis=1).all()


def test_things_of_a_class_have_different_shades_and_stuff_has_one():
    ids = np.ones((80, 120))
    ids[:, 60:] = 2
    for classes, alike in (([0, 0], False), ([2, 2], True)):
        pixels = painted(ids, classes)
        assert (pixels[5, 5] == pixels[5, 115]).all() == alike


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 2)])
def test_segments_of_any_shape_are_drawn(size):
    """Names that do not fit are left out."""
    width, height = size
    assert painted(np.ones((height, width)), [1], size).shape == (height, width, 3)
    assert (painted(np.zeros((height, width)), [], size) == 128).all()


def test_fonts_are_opened_once_whatever_the_letters():
    """Widths and letters are kept by font: a new one for each image would be kept, too."""
    for text in ("cat", "Känguru", "犬"):
        assert font_for(text, 14) is font_for(text, 14)


NAMES = [
    "a",
    "",
    "WWWiiiWWW",
    "traffic light 0.87",
    "名前のラベル",
    "حافلة",
    "e\u0301" * 9,
    "AVAVAVTo" * 3,
]


@pytest.mark.parametrize("text", NAMES)
@pytest.mark.parametrize("width", [0, 1, 9, 20, 33, 50, 77, 120, 10_000])
def test_a_label_is_cut_no_more_than_needed(text: str, width: int):
    font = font_for(text, 12)
    kept = [text[:count] for count in range(1, len(text) + 1)]
    fits = [cut for cut in kept if font.getlength(f"{cut}…") <= width]
    expected = text if font.getlength(text) <= width else (f"{fits[-1]}…" if fits else "")
    assert shortened(text, font, width) == expected


def test_a_class_with_a_very_long_name_is_drawn_soon(monkeypatch: pytest.MonkeyPatch):
    font = font_for("x", 12)
    measured: list[str] = []
    length = font.getlength
    monkeypatch.setattr(font, "getlength", lambda text: measured.append(text) or length(text))
    assert shortened("x" * 5000, font, 60).endswith("x…")
    assert len(measured) < 20
