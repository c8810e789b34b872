"""Pictures: what is drawn lies on the picture, looks the same each time, and harms nothing."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from setmatch.ops.colors import color_of
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments
from setmatch.visualize import draw, draw_segments

PETS = Categories((1, 2), ("cat", "an animal with a very long name indeed"))


def found(xyxy_px: list[list[float]], size_px: tuple[int, int], class_index: int = 0) -> Detections:
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


def test_the_box_is_drawn_in_the_color_of_its_class():
    """The line lies on the box; its class says the color."""
    picture = draw(gray(400, 300), found([[100.0, 100.0, 300.0, 250.0]], (300, 400)))
    assert picture.getpixel((200, 250)) == color_of(0)
    assert picture.getpixel((100, 200)) == color_of(0)
    assert picture.getpixel((200, 175)) == (128, 128, 128)


def test_the_given_picture_is_left_as_it_was():
    """Drawing returns a new picture."""
    image = gray(400, 300)
    draw(image, found([[100.0, 100.0, 300.0, 250.0]], (300, 400)))
    assert not changed(gray(400, 300), image).any()


def test_nothing_found_changes_nothing():
    """An empty answer is a picture without a mark."""
    image = gray(40, 30)
    assert not changed(image, draw(image, found([], (30, 40)))).any()


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
def test_a_label_stays_whole_on_the_picture(xyxy_px: list[float]):
    """Wherever the box lies, the label shows all of its area: as much as in the middle."""
    one = found([xyxy_px], (300, 400))
    color = np.array(color_of(0))
    middle = draw(gray(400, 300), found([[150.0, 100.0, 200.0, 200.0]], (300, 400)))
    rows = np.asarray(middle)[80:98]  # the label above a box in the middle
    filled = (rows == color).all(-1).sum()
    picture = np.asarray(draw(gray(400, 300), one))
    assert filled > 200
    assert (picture == color).all(-1).sum() >= filled


def test_labels_make_room_for_each_other():
    """Two detections of one box show both labels: nearly twice the ink of one."""
    box = [50.0, 100.0, 350.0, 250.0]
    one = changed(gray(400, 300), draw(gray(400, 300), found([box], (300, 400)))).sum()
    two = changed(gray(400, 300), draw(gray(400, 300), found([box, box], (300, 400)))).sum()
    box_alone = 2 * (300 + 150) * 4
    assert two - one > 0.5 * (one - box_alone) > 100


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (40, 40), (2000, 1500)])
def test_any_size_of_picture_can_be_drawn_on(size: tuple[int, int]):
    """From one pixel to a photograph, with a name longer than the picture."""
    width, height = size
    box = [0.0, 0.0, float(width), float(height)]
    assert draw(gray(width, height), found([box, box], (height, width), class_index=1)).size == size


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_any_mode_of_picture_can_be_drawn_on(mode: str):
    """What comes back is RGB, with the box on it."""
    picture = draw(gray(100, 80).convert(mode), found([[20.0, 30.0, 80.0, 70.0]], (80, 100)))
    assert picture.mode == "RGB"
    assert picture.getpixel((50, 70)) == color_of(0)


def test_boxes_without_area_or_inside_out_are_drawn_too():
    """Whatever a model answers, drawing it does not fail."""
    boxes = [[50.0, 50.0, 50.0, 50.0], [80.0, 70.0, 20.0, 10.0]]
    picture = draw(gray(100, 80), found(boxes, (80, 100)))
    assert picture.getpixel((50, 50)) == color_of(0)


def test_classes_have_colors_far_apart():
    """The first twelve classes are easily told apart, and no two of eighty are the same."""
    colors = np.array([color_of(class_index) for class_index in range(80)], dtype=float)
    apart = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(80)
    assert apart[:12, :12].min() > 70
    assert apart.min() > 5


def test_names_beyond_ascii_are_drawn_in_a_font_that_has_them():
    """Pillow's own font has no umlauts; any system font that has them is taken instead."""
    try:
        ImageFont.truetype("DejaVuSans.ttf", 12)
    except OSError:
        pytest.skip("this machine has no font to take")
    pictures = [np.asarray(draw(gray(200, 99), named(name))) for name in ("Käfer", "Kèfer")]
    assert (pictures[0] != pictures[1]).any()  # not both the same empty box


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
    """What belongs to nothing stays as it was, up to the last pixel."""
    ids = np.zeros((80, 120))
    ids[20:60, 10:110] = 1
    pixels = painted(ids, [0])
    assert (pixels[ids == 0] == 128).all()
    assert (pixels[ids == 1] != 128).any(axis=1).all()


def test_two_things_of_a_class_differ_and_two_pieces_of_stuff_do_not():
    """A crowd of people can be told apart; the sky is one."""
    ids = np.ones((80, 120))
    ids[:, 60:] = 2
    for classes, alike in (([0, 0], False), ([2, 2], True)):
        pixels = painted(ids, classes)
        assert (pixels[5, 5] == pixels[5, 115]).all() == alike


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 2)])
def test_segments_of_any_shape_are_drawn(size):
    """No names where there is no room for them, and no errors."""
    width, height = size
    assert painted(np.ones((height, width)), [1], size).shape == (height, width, 3)
    assert (painted(np.zeros((height, width)), [], size) == 128).all()
