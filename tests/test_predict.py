"""Answers for any pictures: in order, independent of company, and broken ones named."""

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from setmatch.errors import ConfigError, DataError, SetmatchError, WeightsError
from setmatch.finding import Found
from setmatch.models.detector import Detector
from setmatch.models.presets import build
from setmatch.predict import predict
from setmatch.predict_folder import predict_folder
from setmatch.scoring import Softmax
from setmatch.structures import (
    Batch,
    Card,
    Categories,
    Detections,
    Predictions,
    Preprocessing,
    Stream,
)

RED_OR_NOT = Categories((3, 8), ("red", "not red"))


class RedFinder(Detector):
    """Answers with one box on the red pixels, and with one nobody believes in."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.scoring = Softmax()
        self.frozen = nn.Dropout()
        self.card = Card("stub", {}, RED_OR_NOT, Preprocessing(64, 128))
        self.shapes: list[tuple[int, ...]] = []
        self.grew: list[bool] = []

    def forward(self, batch: Batch) -> tuple[Stream, ...]:
        assert not self.training
        assert not batch.padded
        self.shapes.append(tuple(batch.pixels.shape))
        self.grew.append(torch.is_grad_enabled())
        red = (batch.pixels[:, 0] > 1) & (batch.pixels[:, 1] < 0)
        height, width = red.shape[1:]
        x = (torch.arange(width) + 0.5) / width * red
        y = (torch.arange(height)[:, None] + 0.5) / height * red
        cxcywh = torch.stack(
            [
                x.sum((1, 2)) / red.sum((1, 2)),
                y.sum((1, 2)) / red.sum((1, 2)),
                red.any(1).sum(1) / width,
                red.any(2).sum(1) / height,
            ],
            dim=1,
        )
        logits = torch.tensor([[0.0, -5.0, 5.0], [5.0, 0.0, 0.0]]).expand(len(red), 2, 3)
        return (Stream("main", Predictions(logits[None], torch.stack([cxcywh, cxcywh], 1)[None])),)


def picture(height: int, width: int, box: tuple[int, int, int, int]) -> torch.Tensor:
    """Grey, with a red box (x0, y0, x1, y1)."""
    image = torch.full((3, height, width), 120, dtype=torch.uint8)
    x0, y0, x1, y1 = box
    image[:, y0:y1, x0:x1] = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
    return image


def to_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


BOX = (32, 16, 64, 48)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several shapes, in folders, one of them no picture at all."""
    (tmp_path / "in/deep").mkdir(parents=True)
    to_pil(picture(64, 96, BOX)).save(tmp_path / "in/a.png")
    to_pil(picture(128, 128, BOX)).save(tmp_path / "in/deep/a.png")
    to_pil(picture(64, 96, (0, 0, 32, 32))).save(tmp_path / "in/c.JPG", quality=95)
    (tmp_path / "in/b.jpg").write_bytes(b"no picture")
    (tmp_path / "in/notes.txt").write_text("no picture either")
    return tmp_path


def best_box(found: Found | list[Found]) -> list[float]:
    assert isinstance(found, Found)
    return found.xyxy_px[0].tolist()


def test_one_picture_gives_one_answer():
    """A single picture is answered by a Found, best first, in pixels of the original."""
    found = predict(RedFinder(), picture(128, 192, (64, 32, 128, 96)))
    assert isinstance(found, Found)
    assert best_box(found) == pytest.approx([64, 32, 128, 96], abs=3)
    assert (found.size_px, len(found)) == ((128, 192), 2)
    assert found.scores[0] > 0.9 > found.scores[1]


def test_a_picture_may_come_in_many_forms(folder: Path):
    """File, name, Pillow image, tensor and array of one picture have the same answer."""
    image = picture(64, 96, BOX)
    forms: list[Any] = [
        folder / "in/a.png",
        str(folder / "in/a.png"),
        to_pil(image),
        image,
        image.permute(1, 2, 0).numpy(),
    ]
    boxes = [best_box(predict(RedFinder(), form)) for form in forms]
    assert boxes == [pytest.approx(list(BOX), abs=1e-3)] * len(forms)


def test_an_array_may_be_a_view_of_anothers_memory():
    """Colours turned round, as OpenCV's have to be, mirrored, and what Pillow lends read-only."""
    rgb = picture(64, 96, BOX).permute(1, 2, 0).numpy()
    bgr, mirrored = rgb[..., ::-1].copy(), rgb[:, ::-1].copy()
    lent = np.asarray(Image.fromarray(rgb))
    assert not lent.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        boxes = [
            best_box(predict(RedFinder(), a)) for a in (bgr[..., ::-1], mirrored[:, ::-1], lent)
        ]
    assert boxes == [pytest.approx(list(BOX), abs=1e-3)] * 3


def test_an_array_of_something_else_is_refused():
    """With what it is and what was expected, also where a tensor could not hold it."""
    for array in (np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8), np.empty((4, 4, 3), object)):
        with pytest.raises(DataError, match=r"ndarray of (float64|uint8|object).*\(H, W, 3\), RGB"):
            predict(RedFinder(), array)


def test_a_picture_lying_on_its_side_is_turned_upright(folder: Path):
    """EXIF counts for files and for Pillow images alike, and boxes are those of the upright one."""
    lying = to_pil(picture(64, 96, BOX))
    exif = lying.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    lying.save(folder / "lying.png", exif=exif)
    for source in (folder / "lying.png", Image.open(folder / "lying.png")):
        found = predict(RedFinder(), source)
        assert best_box(found) == pytest.approx([16, 32, 48, 64], abs=1e-3)


def test_answers_come_in_the_order_of_the_pictures(folder: Path):
    """Batches of equal shape change the order of work, never that of the answers."""
    shapes = [(64, 96), (96, 64), (64, 64)]
    images = [picture(*shapes[i % 3], (i, 0, i + 8, 8)) for i in range(17)]
    found = predict(RedFinder(), images, batch_size=2)
    assert isinstance(found, list)
    assert [each.size_px for each in found] == [shapes[i % 3] for i in range(17)]
    assert [best_box(each)[0] for each in found] == [pytest.approx(i, abs=0.01) for i in range(17)]


@given(st.lists(st.sampled_from([(64, 96), (96, 64), (40, 70)]), max_size=12), st.integers(1, 4))
def test_batches_are_of_equal_shape_and_not_too_large(shapes: list[Any], batch_size: int):
    """Nothing is padded, no batch is larger than asked, and every picture is answered once."""
    model = RedFinder()
    found = predict(model, [picture(*s, (0, 0, 20, 20)) for s in shapes], batch_size=batch_size)
    assert isinstance(found, list)
    assert [each.size_px for each in found] == shapes
    assert all(shape[0] <= batch_size for shape in model.shapes)
    assert sum(shape[0] for shape in model.shapes) == len(shapes)


def test_company_changes_no_answer():
    """A real model gives each picture the same boxes in batches of one and of five."""
    torch.manual_seed(0)
    card = Card("detr_r18_tiny", {}, RED_OR_NOT, Preprocessing(64, 96))
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


def test_only_what_scores_above_the_threshold_is_returned():
    """The threshold cuts the answer; 0 keeps everything."""
    found = predict(RedFinder(), picture(64, 64, BOX), threshold=0.7)
    assert isinstance(found, Found)
    assert found.classes.tolist() == [0]


def test_the_model_is_left_in_the_mode_it_was_in():
    """A model in training answers in evaluation mode and goes on training, frozen parts frozen."""
    model = RedFinder().train()
    model.frozen.eval()
    predict(model, picture(64, 64, BOX))
    assert model.training
    assert not model.frozen.training
    assert model.grew == [False]
    assert torch.is_grad_enabled()


def test_the_mode_comes_back_after_an_error():
    """A failing picture does not leave a training model in evaluation mode."""
    model = RedFinder().train()
    with pytest.raises(WeightsError):
        predict(model, torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert model.training
    assert torch.is_grad_enabled()


def test_found_draws_itself(folder: Path):
    """Whether the picture was a file or pixels, draw() shows it with its boxes."""
    for source in (folder / "in/a.png", picture(64, 96, BOX)):
        found = predict(RedFinder(), source, threshold=0.7)
        assert isinstance(found, Found)
        drawn = found.draw()
        assert drawn.size == (96, 64)
        assert np.any(np.asarray(drawn) != np.asarray(to_pil(picture(64, 96, BOX))))


def test_a_folder_s_pictures_are_not_kept_in_memory(folder: Path):
    """Answers for files hold the path; the pixels are read again only to draw."""
    found = predict(RedFinder(), [folder / "in/a.png", folder / "in/deep"])
    assert isinstance(found, list)
    assert [(each.image, each.path) for each in found] == [
        (None, folder / "in/a.png"),
        (None, folder / "in/deep/a.png"),
    ]


def test_found_stays_found_above_a_threshold():
    """Cutting an answer keeps its picture, so that it can still be drawn."""
    found = predict(RedFinder(), picture(64, 64, BOX))
    assert isinstance(found, Found)
    cut = found.above(0.7)
    assert isinstance(cut, Found)
    assert cut.image is found.image
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
def test_a_picture_that_is_none_is_named(folder: Path, source: Any, what: str):
    """The API stops with what was wrong with which picture."""
    with pytest.raises(DataError, match=what):
        predict(RedFinder(), folder / source if isinstance(source, str) else source)


def test_thresholds_and_batches_that_make_no_sense_are_refused():
    """A threshold in per cent would leave nothing without a word."""
    with pytest.raises(ConfigError, match=r"threshold = 70\.0"):
        predict(RedFinder(), picture(64, 64, BOX), threshold=70.0)
    with pytest.raises(ConfigError, match="batch_size = 0"):
        predict(RedFinder(), picture(64, 64, BOX), batch_size=0)


def test_a_diverged_model_is_an_error_not_an_answer():
    """NaN never becomes a detection."""
    nothing_red = torch.zeros(3, 64, 64, dtype=torch.uint8)  # its centre is 0 / 0
    with pytest.raises(WeightsError, match="not finite"):
        predict(RedFinder(), nothing_red)


def test_one_broken_picture_stops_no_other(folder: Path):
    """The others are drawn and listed; the broken one is named with the reason."""
    summary = predict_folder(RedFinder(), [folder / "in"], folder / "out", 0.7, progress=False)
    assert (summary.images, summary.detections) == (3, 3)
    ((path, reason),) = summary.failed
    assert path == folder / "in/b.jpg"
    assert "cannot be read" in reason
    pictures = {str(p.relative_to(folder / "out")) for p in folder.glob("out/**/*") if p.is_file()}
    assert pictures == {
        "detections.json",
        "detections.csv",
        "pictures/a.png",
        "pictures/c.JPG",
        "pictures/deep/a.png",
    }


def test_no_picture_that_can_be_read_leaves_no_results(folder: Path):
    """An empty list of detections would say that the pictures were looked at."""
    summary = predict_folder(RedFinder(), [folder / "in/b.jpg"], folder / "out", progress=False)
    assert (summary.images, len(summary.failed)) == (0, 1)
    assert not [path for path in folder.glob("out/**/*") if path.is_file()]


def test_results_are_coco_results_with_names(folder: Path):
    """detections.json opens with COCO tools, and says which file and class it speaks of."""
    predict_folder(RedFinder(), [folder / "in"], folder / "out", 0.7, progress=False)
    rows = json.loads((folder / "out/detections.json").read_text("utf-8"))
    assert [(row["image_id"], row["file_name"]) for row in rows] == [
        (1, "a.png"),
        (3, "c.JPG"),
        (4, "deep/a.png"),
    ]
    assert rows[0]["bbox"] == pytest.approx([32, 16, 32, 32], abs=1e-3)
    assert {(row["category_id"], row["category_name"]) for row in rows} == {(3, "red")}
    with (folder / "out/detections.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["file_name"] for row in table] == ["a.png", "c.JPG", "deep/a.png"]
    assert [float(table[0][key]) for key in ("x", "y", "width", "height")] == rows[0]["bbox"]


def test_a_second_run_does_not_read_what_the_first_has_drawn(folder: Path):
    """Results inside the folder of pictures are no pictures to look at."""
    out = folder / "in/out"
    first = predict_folder(RedFinder(), [folder / "in"], out, progress=False)
    second = predict_folder(RedFinder(), [folder / "in"], out, progress=False)
    assert (first.images, second.images) == (3, 3)


def test_results_stay_in_their_folder(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A source above the working folder is not written above the results."""
    monkeypatch.chdir(folder / "in/deep")
    predict_folder(RedFinder(), ["../a.png", "a.png"], folder / "out", progress=False)
    drawn = sorted(str(path.relative_to(folder / "out")) for path in folder.glob("out/**/*.png"))
    assert drawn == ["pictures/a.png", "pictures/deep/a.png"]


def test_a_diverged_model_leaves_no_half_written_results(folder: Path):
    """When the run ends with an error, there is no detections.json that looks complete."""
    Image.new("RGB", (64, 64)).save(folder / "in/black.png")
    with pytest.raises(SetmatchError):
        predict_folder(RedFinder(), [folder / "in"], folder / "out", progress=False)
    assert not (folder / "out/detections.json").exists()
