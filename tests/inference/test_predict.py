"""Predict images of any kind."""

import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from checked_types import unchecked
from fake_detectors import BOX, RED_OR_NOT, RedFinder, red_box_image, to_pil, write_images
from setmatch.errors import ConfigError, DataError, WeightsError
from setmatch.inference.pipeline import ImageResult
from setmatch.inference.predict import predict
from setmatch.models.registry import build
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import ModelCard, Preprocessing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of several shapes, in folders; one of the files is no image."""
    return write_images(tmp_path)


def best_box(result: ImageResult | list[ImageResult]) -> list[float]:
    assert isinstance(result, ImageResult)
    return result.xyxy_px[0].tolist()


def test_one_image_gives_one_result():
    """Detections are sorted by score, in pixels of the original image."""
    result = predict(RedFinder(), red_box_image(128, 192, (64, 32, 128, 96)), threshold=0)
    assert isinstance(result, ImageResult)
    assert best_box(result) == pytest.approx([64, 32, 128, 96], abs=3)
    assert (result.size_px, len(result)) == ((128, 192), 2)
    assert result.scores[0] > 0.9 > result.scores[1]


def test_files_pillow_images_tensors_and_arrays_give_the_same_result(folder: Path):
    image = red_box_image(64, 96, BOX)
    forms: list[Any] = [
        folder / "in/a.png",
        str(folder / "in/a.png"),
        to_pil(image),
        image,
        image.permute(1, 2, 0).numpy(),
    ]
    boxes = [best_box(predict(RedFinder(), form)) for form in forms]
    assert boxes == [pytest.approx(list(BOX), abs=1e-3)] * len(forms)


def test_arrays_may_be_views_or_read_only():
    """Reversed channels (OpenCV), mirrored, and read-only memory of Pillow."""
    rgb = red_box_image(64, 96, BOX).permute(1, 2, 0).numpy()
    bgr, mirrored = rgb[..., ::-1].copy(), rgb[:, ::-1].copy()
    read_only = np.asarray(Image.fromarray(rgb))
    assert not read_only.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        boxes = [
            best_box(predict(RedFinder(), a))
            for a in (bgr[..., ::-1], mirrored[:, ::-1], read_only)
        ]
    assert boxes == [pytest.approx(list(BOX), abs=1e-3)] * 3


def test_an_array_of_another_type_or_shape_is_refused():
    """Also if a tensor could not hold it."""
    for array in (np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8), np.empty((4, 4, 3), object)):
        with pytest.raises(DataError, match=r"ndarray of (float64|uint8|object).*\(H, W, 3\), RGB"):
            predict(RedFinder(), array)


@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((8, 9), "uint8"),
        ((8, 9, 1), "uint8"),
        ((8, 9, 4), "uint8"),
        ((3, 8, 9), "uint8"),
        ((8, 9, 3), "uint8"),
        ((8, 9, 3), "float32"),
        ((3, 8, 9), "float64"),
        ((2, 8, 9, 3), "uint8"),
        ((2, 3, 8, 9), "uint8"),
    ],
)
def test_the_advice_for_pixels_of_another_kind_makes_an_image(
    kind: str, shape: tuple[int, ...], dtype: str
):
    """Follow the advice until there is no more of it, or an image."""
    image: Any = np.full(shape, 255 if dtype == "uint8" else 1, dtype)
    image = image if kind == "array" else torch.from_numpy(image)
    known = {"PIL": PIL, "torch": torch, "list": list}
    for _ in range(3):
        try:
            with pytest.raises(WeightsError):  # as this finds nothing red, its box is not finite
                predict(RedFinder(), image)
        except DataError as error:
            advice = re.search(r"give (.+)", str(error))
            gray_tensor = kind == "tensor" and shape[-1] in (1, 4, 9) and 3 not in shape
            assert bool(advice) != gray_tensor
            if advice is None:
                return
            image = (
                [eval(advice[1], {**known, "image": each}) for each in image]
                if isinstance(image, list)
                else eval(advice[1], {**known, "image": image, "images": image})
            )
        else:
            assert isinstance(image, list) == (len(shape) == 4)
            return
    raise AssertionError(image)


@pytest.mark.parametrize(
    "given",
    [None, 5, 0.5, b"a.png", {}, {"image": 1}, BytesIO(), object(), [None], [b"a.png"], [[1, 2]]],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_image_is_refused_in_a_sentence(given: Any):
    with (
        unchecked(),
        pytest.raises(DataError, match=r"is not an image; give the path of a file"),
    ):
        predict(RedFinder(), given)


@pytest.mark.parametrize("source", ["", "x" * 5000, Path("x" * 5000), f"{'x' * 300}/*.png"])
def test_a_name_that_no_file_can_have_is_refused(source: str | Path):
    for images in (source, [source]):
        with pytest.raises(DataError, match=r"is empty|no such file|matches no file") as error:
            predict(RedFinder(), images)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (0, 0, 3)])
def test_an_image_without_pixels_is_refused(shape: tuple[int, int, int]):
    empty = np.zeros(shape, np.uint8)
    for image in (empty, torch.from_numpy(empty).permute(2, 0, 1)):
        with pytest.raises(DataError, match="at least one pixel"):
            predict(RedFinder(), image)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_pillow_image_without_pixels_is_refused(mode: str, size: tuple[int, int]):
    with pytest.raises(DataError, match=f"the given {mode} image: .*no pixels"):
        predict(RedFinder(), Image.new(mode, size))


@pytest.mark.parametrize("model", [None, "scenes_n", Path("runs/first"), 5, torch.nn.Identity()])
def test_what_is_no_model_is_refused_in_a_sentence(model: Any):
    with unchecked(), pytest.raises(ConfigError, match=r"is not a model; setmatch\.load\(source\)"):
        predict(model, np.zeros((4, 4, 3), np.uint8))


def test_images_are_rotated_by_exif(folder: Path):
    """In files and Pillow images; boxes are in pixels of the upright image."""
    rotated = to_pil(red_box_image(64, 96, BOX))
    exif = rotated.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    rotated.save(folder / "rotated.png", exif=exif)
    for source in (folder / "rotated.png", Image.open(folder / "rotated.png")):
        result = predict(RedFinder(), source)
        assert best_box(result) == pytest.approx([16, 32, 48, 64], abs=1e-3)


def test_results_have_the_order_of_the_images(folder: Path):
    shapes = [(64, 96), (96, 64), (64, 64)]
    images = [red_box_image(*shapes[i % 3], (i, 0, i + 8, 8)) for i in range(17)]
    result = predict(RedFinder(), images, batch_size=2)
    assert isinstance(result, list)
    assert [each.size_px for each in result] == [shapes[i % 3] for i in range(17)]
    assert [best_box(each)[0] for each in result] == [pytest.approx(i, abs=0.01) for i in range(17)]


@given(st.lists(st.sampled_from([(64, 96), (96, 64), (40, 70)]), max_size=12), st.integers(1, 4))
def test_batches_have_one_shape_and_at_most_batch_size_images(shapes: list[Any], batch_size: int):
    """Nothing is padded, and every image has one result."""
    model = RedFinder()
    result = predict(
        model, [red_box_image(*s, (0, 0, 20, 20)) for s in shapes], batch_size=batch_size
    )
    assert isinstance(result, list)
    assert [each.size_px for each in result] == shapes
    assert all(shape[0] <= batch_size for shape in model.shapes)
    assert sum(shape[0] for shape in model.shapes) == len(shapes)


def test_results_do_not_depend_on_the_other_images_of_a_batch():
    torch.manual_seed(0)
    card = ModelCard("detr_r18_tiny", {}, RED_OR_NOT, Preprocessing(64, 96))
    model = build(card)
    random = torch.Generator().manual_seed(1)
    images: list[Any] = [
        torch.randint(256, (3, *((64, 96) if i % 2 else (70, 70))), generator=random).byte()
        for i in range(7)
    ]
    alone, together = (predict(model, images, batch_size=size) for size in (1, 5))
    assert isinstance(alone, list)
    assert isinstance(together, list)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.xyxy_px, other.xyxy_px, rtol=0, atol=1e-3)


def test_only_detections_above_the_threshold_are_returned():
    result = predict(RedFinder(), red_box_image(64, 64, BOX), threshold=0.7)
    assert isinstance(result, ImageResult)
    assert result.classes.tolist() == [0]


def test_every_module_keeps_its_mode():
    """A copy of a training model predicts, in evaluation mode and without gradients."""
    model = RedFinder().train()
    model.frozen.eval()
    predict(model, red_box_image(64, 64, BOX))
    assert model.training
    assert not model.frozen.training
    assert model.grad_enabled == [False]
    assert torch.is_grad_enabled()


def test_the_mode_is_unchanged_after_an_error():
    model = RedFinder().train()
    with pytest.raises(WeightsError):
        predict(model, torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert model.training
    assert torch.is_grad_enabled()


def test_a_result_can_be_drawn(folder: Path):
    """From a file and from pixels."""
    for source in (folder / "in/a.png", red_box_image(64, 96, BOX)):
        result = predict(RedFinder(), source, threshold=0.7)
        assert isinstance(result, ImageResult)
        drawn = result.draw()
        assert drawn.size == (96, 64)
        assert np.any(np.asarray(drawn) != np.asarray(to_pil(red_box_image(64, 96, BOX))))


def test_images_of_a_folder_are_not_kept_in_memory(folder: Path):
    """Results of files hold the path; the pixels are read again to draw."""
    result = predict(RedFinder(), [folder / "in/a.png", folder / "in/deep"])
    assert isinstance(result, list)
    assert [(each.image, each.path) for each in result] == [
        (None, folder / "in/a.png"),
        (None, folder / "in/deep/a.png"),
    ]


def test_above_keeps_the_image_of_a_result():
    result = predict(RedFinder(), red_box_image(64, 64, BOX))
    assert isinstance(result, ImageResult)
    cut = result.above(0.7)
    assert isinstance(cut, ImageResult)
    assert cut.image is result.image
    assert isinstance(cut, Detections)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("in/b.jpg", "b.jpg"),
        ("in/none.jpg", "no such file"),
        ("in/*.gif", "matches no file"),
        ("in/*.txt", "no image"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (torch.zeros(1, 4, 4, dtype=torch.uint8), r"shape \(1, 4, 4\)"),
    ],
)
def test_a_source_that_is_no_image_is_refused(folder: Path, source: Any, what: str):
    with pytest.raises(DataError, match=what):
        predict(RedFinder(), folder / source if isinstance(source, str) else source)


def test_thresholds_and_batch_sizes_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"threshold = 70\.0"):
        predict(RedFinder(), red_box_image(64, 64, BOX), threshold=70.0)
    with pytest.raises(ConfigError, match="batch_size = 0"):
        predict(RedFinder(), red_box_image(64, 64, BOX), batch_size=0)


def test_a_diverged_model_raises_an_error():
    nothing_red = torch.zeros(3, 64, 64, dtype=torch.uint8)  # its center is 0 / 0
    with pytest.raises(WeightsError, match="not finite"):
        predict(RedFinder(), nothing_red)


def test_a_video_is_refused_with_the_function_that_reads_it(tmp_path: Path):
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 100)
    with pytest.raises(DataError, match=r"clip\.mp4: is a video; call .*predict_video\(model, "):
        predict(RedFinder(), tmp_path / "clip.mp4")


@pytest.mark.parametrize("wanted", ["red", 0, ["red"], [0], "0"])
def test_one_class_is_chosen_by_its_name_or_index(wanted: Any):
    """A name alone is no list of letters."""
    image = red_box_image(128, 192, (64, 32, 128, 96))
    assert len(predict(RedFinder(), image, threshold=0.5, classes=wanted)) == 1
    assert len(predict(RedFinder(), image, threshold=0.5, classes=[])) == 0


def test_a_threshold_that_is_no_score_is_named():
    image = red_box_image(64, 96, (32, 16, 64, 48))
    with pytest.raises(ConfigError, match=r"^threshold = 50: scores"):
        predict(RedFinder(), image, threshold=50)
    with pytest.raises(ConfigError, match=r"^segment_threshold = 50: scores"):
        predict(RedFinder(), image, segment_threshold=50)
