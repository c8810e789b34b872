"""FIFOs, devices and sockets in a data set: refused or left out by name, never waited for."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from fake_detectors import RedFinder
from setmatch.config import DataSettings
from setmatch.data.audit.audit import audit
from setmatch.data.audit.fix import write_fixed
from setmatch.data.batches.loader import training_batches
from setmatch.data.convert import convert_dataset
from setmatch.data.open import open_dataset
from setmatch.errors import DataError, SetmatchError
from setmatch.evaluation.evaluate import evaluate
from setmatch.models.load import load
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Preprocessing
from special_files import SPECIAL

pytestmark = pytest.mark.timeout(60)
IMAGES = 30


def coco(root: Path) -> None:
    entries = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "red"}]}
    (root / "images").mkdir()
    for number in range(1, IMAGES + 1):
        Image.new("RGB", (40, 30), (255, number, 0)).save(root / f"images/{number}.png")
        size = {"width": 40, "height": 30}
        entries["images"].append({"id": number, "file_name": f"{number}.png", **size})
        box = {"bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 0}
        entries["annotations"].append({"id": number, "image_id": number, "category_id": 1, **box})
    (root / "annotations.json").write_text(json.dumps(entries))


def yolo(root: Path) -> None:
    coco(root)
    (root / "annotations.json").unlink()
    (root / "labels").mkdir()
    for number in range(1, IMAGES + 1):
        (root / f"labels/{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (root / "data.yaml").write_text("train: images\nnames: [red]\n")


def voc(root: Path) -> None:
    coco(root)
    (root / "annotations.json").unlink()
    (root / "Annotations").mkdir()
    for number in range(1, IMAGES + 1):
        (root / f"Annotations/{number}.xml").write_text(
            f"<annotation><filename>{number}.png</filename><size><width>40</width><height>30"
            "</height></size><object><name>red</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11"
            "</xmax><ymax>22</ymax></bndbox></object></annotation>"
        )


FORMATS: dict[str, Callable[[Path], None]] = {"coco": coco, "yolo": yolo, "voc": voc}
KINDS = ["FIFO", "endless device"]  # tests/test_reading.py has all


@pytest.mark.crossed
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", FORMATS)
def test_an_image_that_is_none_is_named_and_the_others_are_used(
    tmp_path: Path, format: str, kind: str
):
    FORMATS[format](tmp_path)
    (tmp_path / "images/7.png").unlink()
    SPECIAL[kind](tmp_path / "images/7.png")
    result = audit(tmp_path, all_images=True)
    assert [each.file for each in result.findings if "7." in each.file]
    conversion = convert_dataset(tmp_path, tmp_path / "to", "coco")
    assert sum(conversion.images.values()) == IMAGES - 1
    assert any(fix.file.startswith("7.") for fix in conversion.fixes)
    assert any("1 of " in note for note in conversion.notes)
    model = RedFinder()
    model.num_queries = 2
    evaluate(model, tmp_path, split="train", workers=0, progress=False)


ANNOTATIONS = [
    *(("coco", "annotations.json"), ("yolo", "data.yaml"), ("yolo", "labels/7.txt")),
    *(("yolo", "classes.txt"), ("voc", "classes.txt"), ("voc", "Annotations/7.xml")),
    *(("voc", "ImageSets/train.txt"), ("yolo", "train.txt"), ("coco", "other.json")),
]


@pytest.mark.crossed
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("format", "file"), ANNOTATIONS)
def test_an_annotation_file_that_is_none_is_refused_or_left_out(
    tmp_path: Path, format: str, file: str, kind: str
):
    """By every function that opens a data set."""
    FORMATS[format](tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).unlink(missing_ok=True)
    SPECIAL[kind](tmp_path / file)
    for use in (
        lambda: open_dataset(tmp_path, "train"),
        lambda: audit(tmp_path),
        lambda: convert_dataset(tmp_path, tmp_path / "to", "coco"),
    ):
        with suppress(SetmatchError):
            use()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "file", ["a.yaml", "card.json", "config.json", "model.safetensors", "a.pth"]
)
def test_recipes_and_weights_that_are_none_are_refused(tmp_path: Path, kind: str, file: str):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / file).unlink(missing_ok=True)
    SPECIAL[kind](tmp_path / file)
    if file == "a.yaml":
        with pytest.raises(SetmatchError, match=r"a\.yaml: is a"):
            load_recipe(tmp_path / file)
        return
    for source in (tmp_path, tmp_path / file):
        with pytest.raises(SetmatchError):
            load(source)


@pytest.mark.parametrize("kind", KINDS)
def test_detections_that_are_none_are_refused(tmp_path: Path, kind: str):
    coco(tmp_path)
    SPECIAL[kind](tmp_path / "detections.json")
    with pytest.raises(SetmatchError, match=r"detections\.json: cannot be read"):
        evaluate(tmp_path / "detections.json", tmp_path / "annotations.json")


def test_a_data_set_of_names_that_are_not_utf8_is_used(tmp_path: Path):
    """Names of another encoding, as archives from elsewhere unpack them."""
    yolo(tmp_path)
    shutil.move(tmp_path / "images/7.png", bytes(tmp_path / "images") + b"/caf\xe9.png")
    shutil.move(tmp_path / "labels/7.txt", bytes(tmp_path / "labels") + b"/caf\xe9.txt")
    dataset = open_dataset(tmp_path, "train")
    assert "caf\udce9.png" in open_dataset(tmp_path, "train").file_names() + (
        open_dataset(tmp_path, "val").file_names()
    )
    assert all(dataset.path(image).is_file() for image in range(len(dataset)))
    result = audit(tmp_path, all_images=True)
    result.write_json(tmp_path / "audit.json")
    assert not result.error_count
    write_fixed(tmp_path, result.discovered, tmp_path / "fixed")
    (fixed,) = (tmp_path / "fixed/annotations").iterdir()
    names = {image["file_name"] for image in json.loads(fixed.read_text())["images"]}
    assert "caf\udce9.png" in names
    for format in FORMATS:
        convert_dataset(tmp_path, tmp_path / f"to {format}", format)
        again = open_dataset(tmp_path / f"to {format}", "train")
        assert all(again.path(image).is_file() for image in range(len(again)))


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_decoder_raises_is_an_error_of_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
):
    """In audit, evaluation, training and conversion; a damaged AVIF ended all of them."""
    FORMATS[format](tmp_path)
    opened = Image.open
    with (tmp_path / "images/7.png").open("ab") as file:
        file.write(b"damaged")

    def open_image(file: BytesIO, formats: Sequence[str]) -> Image.Image:
        content = file.read()
        file.seek(0)
        image = opened(file, formats=formats)
        if content.endswith(b"damaged"):
            monkeypatch.setattr(image, "load", fail)
        return image

    def fail() -> None:
        raise RuntimeError("Failed to decode frame 0")

    monkeypatch.setattr(Image, "open", open_image)
    result = audit(tmp_path, all_images=True)
    assert {each.file for each in result.findings if "cannot be" in each.kind} == {"7.png"}
    assert sum(convert_dataset(tmp_path, tmp_path / "to", "coco").images.values()) == IMAGES
    if format != "coco":
        return
    dataset = open_dataset(tmp_path / "annotations.json", "train")
    model = RedFinder()
    model.num_queries = 2
    report = evaluate(model, dataset, workers=0, progress=False)
    (missed,) = report.unreadable
    assert "7.png: cannot be read as an image (Failed to decode frame 0)" in missed
    sides = Preprocessing(32, 64)
    settings = DataSettings(workers=0)
    batches = training_batches(dataset, settings, sides, batch_size=IMAGES, steps=1)
    with pytest.raises(DataError, match=r"1 of 30 images cannot be read: 7\.png"):
        list(batches)
