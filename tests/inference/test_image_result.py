"""What predict returns: one image with its detections, to look at and to cut."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from checked_types import unchecked
from fake_detectors import BOX, RED_OR_NOT, RedFinder, red_box_image, to_pil, write_images
from setmatch.errors import ConfigError
from setmatch.inference.pipeline import ImageResult
from setmatch.inference.predict import predict
from setmatch.inference.predict_folder import predict_folder
from setmatch.structures.segments import Segments
from setmatch.visualize.labels import line_px, texts_of

IMAGE = red_box_image(64, 96, BOX)


def result(*boxes: tuple[float, float, float, float]) -> ImageResult:
    xyxy_px = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    scores = torch.linspace(0.9, 0.5, len(boxes))
    classes = torch.zeros(len(boxes), dtype=torch.int64)
    return ImageResult(xyxy_px, scores, classes, RED_OR_NOT, (64, 96), image=IMAGE)


def with_segments() -> ImageResult:
    ids = torch.zeros(64, 96, dtype=torch.int32)
    ids[:, :48], ids[:, 48:] = 1, 2
    segments = Segments(ids, torch.tensor([0, 0]), torch.tensor([0.9, 0.8]), RED_OR_NOT)
    return ImageResult(
        torch.zeros(0, 4),
        torch.zeros(0),
        torch.zeros(0, dtype=torch.int64),
        RED_OR_NOT,
        (64, 96),
        segments=segments,
        image=IMAGE,
    )


def colors(image: Image.Image) -> set[tuple[int, ...]]:
    red, green, blue = np.moveaxis(np.asarray(image).astype(np.int64), -1, 0)
    numbers = np.unique(red << 16 | green << 8 | blue).tolist()
    return {(number >> 16, number >> 8 & 255, number & 255) for number in numbers}


def test_python_and_the_command_line_show_the_same_by_default(tmp_path: Path):
    """The model's own threshold; 0 returns everything."""
    folder = write_images(tmp_path)
    summary = predict_folder(RedFinder(), [folder / "in/a.png"], tmp_path / "out", progress=False)
    assert len(predict(RedFinder(), folder / "in/a.png")) == summary.detections == 1
    assert len(predict(RedFinder(), folder / "in/a.png", threshold=0)) == 2


@pytest.mark.parametrize("source", ["file", "pixels"])
def test_a_notebook_shows_the_drawn_image(tmp_path: Path, source: str):
    """As a PNG of moderate size, whatever the size of the image."""
    large = torch.nn.functional.interpolate(IMAGE[None].float(), scale_factor=12)[0].byte()
    to_pil(large).save(tmp_path / "large.png")
    found = predict(RedFinder(), large if source == "pixels" else tmp_path / "large.png")
    shown = Image.open(BytesIO(found._repr_png_()))
    assert shown.format == "PNG"
    assert shown.size == (1024, 683)
    assert len(colors(shown.convert("RGB"))) > len(colors(to_pil(large)))


def test_a_notebook_shows_the_text_if_the_file_is_gone(tmp_path: Path):
    to_pil(IMAGE).save(tmp_path / "a.png")
    found = predict(RedFinder(), tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert found._repr_png_() is None
    assert repr(found) == "ImageResult(1 in 96x64 px: 'red' 0.99)"


def test_a_crop_is_the_part_of_the_image_in_a_box():
    (red,) = predict(RedFinder(), IMAGE).crop()
    x0, y0, x1, y1 = BOX
    assert abs(red.width - (x1 - x0)) <= 2
    assert abs(red.height - (y1 - y0)) <= 2
    exact = result(BOX).crop()[0]
    assert exact.size == (x1 - x0, y1 - y0)
    assert colors(exact) == {(255, 0, 0)}


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
def test_a_crop_lies_inside_the_image_whatever_the_box(sides: list[float]):
    """Boxes may leave the image, be empty, or have their corners swapped."""
    (part,) = result((sides[0], sides[1], sides[2], sides[3])).crop()
    assert 1 <= part.width <= 96
    assert 1 <= part.height <= 64


def test_filtering_keeps_the_image():
    found = result(BOX, (0, 0, 8, 8))
    assert len(found.filter("red", 0.7).crop()) == 1
    assert found[:1].draw().size == (96, 64)


@pytest.mark.parametrize("make", [lambda: result(BOX, (0, 0, 20, 20)), with_segments])
def test_labels_lines_and_colors_can_be_chosen(make):
    """None of it changes the size of the image or what is not drawn on."""
    found = make()
    plain = found.draw()
    drawn = {
        "no labels": found.draw(labels=False),
        "own labels": found.draw(labels=["one", "two"]),
        "thick": found.draw(width=7),
        "by detection": found.draw(color_by="detection"),
    }
    assert all(each.size == plain.size for each in drawn.values())
    assert len({each.tobytes() for each in [plain, *drawn.values()]}) == 5
    assert found.draw(labels=True, width=None, color_by="class").tobytes() == plain.tobytes()


def test_thicker_lines_cover_more():
    thin, thick = (
        np.sum(np.asarray(result(BOX).draw(labels=False, width=w)) != np.asarray(to_pil(IMAGE)))
        for w in (1, 6)
    )
    assert thick > 2 * thin


def test_detections_of_one_class_differ_in_color_if_asked():
    boxes = result((10, 10, 30, 30), (50, 10, 70, 30))
    one = colors(boxes.draw(labels=False)) - colors(to_pil(IMAGE))
    two = colors(boxes.draw(labels=False, color_by="detection")) - colors(to_pil(IMAGE))
    assert len(two) > len(one)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"labels": ["one"]}, "1 texts: give one text for each of the 2"),
        ({"labels": "one"}, "labels = 'one'"),
        ({"width": 0}, "width = 0"),
    ],
)
@pytest.mark.parametrize("make", [lambda: result(BOX, (0, 0, 20, 20)), with_segments])
def test_what_cannot_be_drawn_is_refused(make, options, what):
    with pytest.raises(ConfigError, match=what):
        make().draw(**options)


# Checked by the functions that the methods call: the tests' own check of shapes comes before those
# of the methods.
REFUSED: dict[str, tuple[Callable[[Any], Any], list[Any], str]] = {
    "labels": (
        lambda value: texts_of(value, ["a", "b"]),
        [None, 3, [1, 2], [None] * 2],
        "one text",
    ),
    "width": (lambda value: line_px(value, "class", 2), ["x", 2.5, float("nan"), [1], True], "one"),
    "color_by": (lambda value: line_px(1, value, 2), [None, 3, "x"], "choose class or detection"),
    "class": (RED_OR_NOT.indices_of, [None, 2.5, ["red"], object, True], "name or the index"),
    "classes": (
        lambda value: result(BOX).filter(value),
        [2.5, object, True, [False], b"red"],
        "give ",
    ),
    "score": (lambda value: result(BOX).filter(score=value), [None, "best", [0.5]], "a number"),
}


@pytest.mark.parametrize(("take", "values", "what"), REFUSED.values(), ids=REFUSED)
def test_what_is_of_a_wrong_type_is_refused_in_a_sentence(take, values: list[Any], what: str):
    for value in values:
        with pytest.raises(ConfigError, match=what):
            take(value)


@pytest.mark.parametrize("kind", [int, np.int64, np.int32])
def test_a_class_is_chosen_by_an_integer_of_any_kind(kind: Callable[[int], Any]):
    assert RED_OR_NOT.indices_of(kind(0)) == [0]


CHOICES = [[True, False, True], [False, False, False], [0, 2], [2, 0, -1], []]
FORMS = {"list": list, "tuple": tuple, "array": np.array, "tensor": torch.tensor}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_lists_arrays_and_tensors_choose_alike(choice: list[Any], form: Callable[[Any], Any]):
    """Booleans say which, numbers say where; True is not 1."""
    found = result((0, 0, 9, 9), (1, 1, 9, 9), (2, 2, 9, 9))
    masks = bool(choice) and type(choice[0]) is bool
    places = [place for place in range(3) if choice[place]] if masks else choice
    assert found[form(choice)].xyxy_px[:, 0].tolist() == [place % 3 for place in places]


def test_a_number_of_numpy_gives_one_detection():
    found = result((0, 0, 9, 9), (1, 1, 9, 9))
    with unchecked():
        assert found[np.int64(1)].xyxy_px == (1, 1, 9, 9)
        assert found[np.array([1, 0])[0]] == found[1]


@pytest.mark.parametrize(
    "choice",
    ["red", None, True, [0.5], ["red"], [True], np.ones((3, 3), bool), [[0], [1, 2]], {0: 1}],
    ids=repr,
)
def test_what_chooses_nothing_is_refused(choice: Any):
    found = result((0, 0, 9, 9), (1, 1, 9, 9), (2, 2, 9, 9))
    with unchecked(), pytest.raises(ConfigError, match=r"by a number, a slice, or a list of"):
        found[choice]
    with pytest.raises(IndexError, match="detection 3: there are 3"):
        found[[0, 3]]
