"""Evaluation from a folder of annotated images to the report, in one process and in several."""

import contextlib
import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from fake_processes import in_processes
from setmatch.cli import main
from setmatch.data.open import open_dataset
from setmatch.distributed import Distributed
from setmatch.errors import ConfigError, DataError
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.results import Report
from setmatch.losses.classification import Softmax
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.structures.outputs import PredictionGroup, Predictions

KNOWN = Categories((1, 5, 6), ("blue", None, "red"))
SIZES_PX = [(64, 96), (96, 64), (64, 64)]


class ColorFinder(Detector):
    """Answers with one box on the red pixels and one on the blue ones, a little too wide."""

    def __init__(self, categories: Categories = KNOWN) -> None:
        nn.Module.__init__(self)
        self.class_loss, self.mask_head, self.num_queries = Softmax(), None, 2
        self.card = ModelCard("stub", {}, categories, Preprocessing(64, 96))
        self.asked = 0

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        assert not batch.padded
        self.asked += len(batch.pixels)
        boxes, logits = [], []
        for channel, other, class_index in ((0, 2, 2), (2, 0, 0)):
            here = (batch.pixels[:, channel] > 1) & (batch.pixels[:, other] < 0)
            height, width = here.shape[1:]
            x = ((torch.arange(width) + 0.5) / width * here).sum((1, 2))
            y = ((torch.arange(height)[:, None] + 0.5) / height * here).sum((1, 2))
            count = here.sum((1, 2)).clamp(min=1)
            w, h = here.any(1).sum(1) / width * 1.1, here.any(2).sum(1) / height
            boxes.append(torch.stack([x / count, y / count, w, h], dim=1))
            score = torch.full((len(here), 4), -9.0)
            score[:, class_index] = here.float().mean((1, 2)) * 9
            logits.append(score)
        return (
            PredictionGroup(
                "main", Predictions(torch.stack(logits, 1)[None], torch.stack(boxes, 1)[None])
            ),
        )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eleven pictures of three shapes with a red and a blue box each; one has nothing annotated."""
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    images, annotations = [], []
    for number in range(11):
        height, width = SIZES_PX[number % 3]
        picture = Image.new("RGB", (width, height), (120, 120, 120))
        name, image_id = f"{number:02d}.png", 100 - 7 * number
        for category_id, color, left in ((7, "red", 4), (9, "blue", 36)):
            box = (left, 2 + number, 16 + number, 20)
            picture.paste(color, (box[0], box[1], box[0] + box[2], box[1] + box[3]))
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "bbox": box}
            annotation |= {"category_id": category_id, "area": box[2] * box[3], "iscrowd": 0}
            annotations += [annotation] if number != 4 else []
        picture.save(tmp_path / "images" / name)
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
    categories = [{"id": 9, "name": "blue"}, {"id": 7, "name": "red"}, {"id": 2, "name": "[b]"}]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "annotations/val.json").write_text(json.dumps(tree))
    return tmp_path


def test_the_report_says_what_pycocotools_says_of_the_detections(data: Path, tmp_path: Path):
    """Both files of one evaluation: pycocotools finds the report's numbers in the detections."""
    evaluate(
        ColorFinder(),
        data,
        workers=0,
        json=tmp_path / "report.json",
        detections=tmp_path / "found.json",
    )
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data / "annotations/val.json"))
        theirs = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    per_class = report.pop("per_class")
    assert len(report) == 12
    assert list(report.values()) == pytest.approx(theirs.stats.tolist(), abs=1e-12)
    assert 0.3 < report["AP"] < 1
    assert per_class["red"]["boxes"] == 10
    assert per_class["[b]"] == {"AP": -1, "AP50": -1, "boxes": 0}


def test_classes_are_matched_by_name(data: Path):
    """Neither ids nor order matter: the model's slots become those of the data set."""
    report = evaluate(ColorFinder(), data, workers=0)
    assert {name: numbers.AP50 for name, numbers in report.per_class.items()} == {
        "[b]": -1,
        "red": pytest.approx(report.AP50, abs=0.2),
        "blue": pytest.approx(report.AP50, abs=0.2),
    }
    assert report.per_class["red"].AP50 > 0.8 < report.per_class["blue"].AP50
    assert (report.images, report.detections, report.unknown) == (11, 22, ("[b]",))


def test_a_class_that_only_one_side_knows_does_no_harm(data: Path):
    """The model's other classes are left out; the data set's are missed and named."""
    report = evaluate(ColorFinder(Categories((1, 2, 3), ("blue", "x", "y"))), data, workers=0)
    whole = evaluate(ColorFinder(), data, workers=0)
    assert report.per_class["blue"] == whole.per_class["blue"]
    assert report.per_class["red"].AP == 0
    assert report.unknown == ("[b]", "red")


def test_nothing_in_common_is_an_error_that_names_both(data: Path):
    """A model for other classes has no AP of 0 here, it has no AP."""
    stranger = ColorFinder(Categories((1, 2, 3), ("cat", "dog", "fox")))
    with pytest.raises(DataError, match=r"\[b\], red, blue.*cat, dog, fox"):
        evaluate(stranger, data)


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_report_the_same(data: Path, tmp_path: Path, world: int):
    """rf-detr #1507: each image is asked about once; every process has the same report."""
    models = [ColorFinder() for _ in range(world)]
    file = tmp_path / "found.json"

    def work(distributed: Distributed) -> Report:
        model = models[distributed.rank]
        return evaluate(
            model, data, batch_size=2, workers=0, detections=file, distributed=distributed
        )

    reports = in_processes(world, work)
    several = file.read_text()
    alone = evaluate(ColorFinder(), data, batch_size=2, workers=0, detections=file)
    assert reports == [alone] * world
    assert several == file.read_text()
    assert sum(model.asked for model in models) == 11
    assert all(model.asked for model in models)


def damage(picture: Path) -> None:
    """Spoil the middle of a PNG, which shows only when it is decoded."""
    content = picture.read_bytes()
    picture.write_bytes(content[:60] + b"????" + content[64:])


@pytest.mark.parametrize("spoil", [damage, lambda picture: picture.write_bytes(b"no picture")])
@pytest.mark.parametrize("world", [1, 2])
def test_an_image_that_cannot_be_read_is_unanswered_not_left_out(data, tmp_path, spoil, world):
    """Its objects count as missed: as many as before, and the numbers of a model blind to it."""

    def work(distributed: Distributed) -> Report:
        return evaluate(ColorFinder(), data, batch_size=2, workers=0, distributed=distributed)

    file = tmp_path / "found.json"
    before = evaluate(ColorFinder(), data, workers=0, detections=file)
    spoil(data / "images/05.png")
    reports = in_processes(world, work)
    assert reports == [reports[0]] * world
    (said,) = reports[0].unanswered
    assert "count as missed (2)" in said
    assert "05.png: cannot be read" in said
    assert reports[0].per_class["red"].boxes == before.per_class["red"].boxes == 10
    kept = [each for each in json.loads(file.read_text()) if each["image_id"] != 65]
    file.write_text(json.dumps(kept))
    nothing_detected = evaluate(file, open_dataset(data, "val"))
    assert reports[0].numbers() == nothing_detected.numbers()
    assert reports[0].AP < before.AP
    assert reports[0].to_json()["unanswered"] == [said]
    page = tmp_path / "report.html"
    evaluate(ColorFinder(), data, workers=0, report=page)
    assert "count as missed" in page.read_text()


def test_the_failure_of_one_process_is_told_in_all(data: Path):
    """Too many unreadable images end the evaluation everywhere; nobody waits for who failed."""
    damage(data / "images/05.png")
    damage(data / "images/06.png")

    def work(distributed: Distributed) -> Report:
        return evaluate(ColorFinder(), data, batch_size=2, workers=0, distributed=distributed)

    outcomes = in_processes(2, work)
    assert all(isinstance(outcome, DataError) for outcome in outcomes)
    assert all("2 unreadable of 11" in str(outcome) for outcome in outcomes)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_workers_change_nothing(data: Path, workers: int):
    """The numbers belong to model and data alone."""
    index = open_dataset(data, "val")
    expected = evaluate(ColorFinder(), data, workers=0)
    assert evaluate(ColorFinder(), index, batch_size=1, workers=workers) == expected


def test_the_model_is_left_in_the_mode_it_was_in(data: Path):
    """Evaluation between two training steps leaves a training model."""
    model = ColorFinder().train()
    evaluate(model, data, workers=0)
    assert model.training
    assert torch.is_grad_enabled()


def test_an_output_that_cannot_be_written_is_refused_first(data: Path, tmp_path: Path):
    """A typing error in a path does not cost an evaluation."""
    model = ColorFinder()
    (tmp_path / "file").touch()
    for output in (tmp_path, tmp_path / "file/report.json"):
        with pytest.raises(ConfigError, match="folder; name"):
            evaluate(model, data, json=output)
        with pytest.raises(ConfigError, match="folder; name"):
            evaluate(model, data, detections=output)
        with pytest.raises(ConfigError, match="folder; name"):
            evaluate(model, data, report=output)
    with pytest.raises(ConfigError, match="batch_size = 0"):
        evaluate(model, data, batch_size=0)
    assert model.asked == 0


@pytest.mark.parametrize(("boxes", "counted"), [(100, 100), (101, 150)])
def test_more_than_a_hundred_objects_raise_the_limit(data: Path, boxes: int, counted: int):
    """cocoapi #558, rf-detr #743: where an image is that full, all of the model's slots count."""

    model = ColorFinder()
    model.num_queries = 150

    tree = json.loads((data / "annotations/val.json").read_text())
    template = tree["annotations"][0]
    tree["annotations"] = [template | {"id": number} for number in range(1, boxes + 1)]
    (data / "annotations/val.json").write_text(json.dumps(tree))
    assert evaluate(model, data, workers=0).max_detections == counted


class TwoLayers(ColorFinder):
    """Answers with the same boxes in both layers, in the first shifted by a quarter."""

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        (main,) = super().forward(batch)
        logits, cxcywh = main.predictions.logits, main.predictions.cxcywh
        shifted = cxcywh * torch.tensor([1.0, 1.25, 1.0, 1.0])
        both = Predictions(logits.repeat(2, 1, 1, 1), torch.cat([shifted, cxcywh]))
        return (PredictionGroup("main", both),)


def test_the_layers_are_told_from_the_same_pass(data: Path, tmp_path: Path):
    """The last layer's AP is the report's, each image is asked about once, json holds it all."""
    model = TwoLayers()
    outputs = {"json": tmp_path / "report.json", "report": tmp_path / "report.html"}
    report = evaluate(model, data, workers=0, **outputs)
    assert report.diagnosis is not None
    first, last = report.diagnosis.layers
    assert (last.layer, last.AP, last.AP50) == (2, report.AP, report.AP50)
    assert first.AP < last.AP
    assert model.asked == 11
    plain = evaluate(TwoLayers(), data, workers=0)
    assert plain.numbers() == report.numbers()
    assert plain.diagnosis is None
    tree = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert tree["diagnosis"]["layers"][1]["AP"] == report.AP
    assert (tmp_path / "report.html").read_text("utf-8").count("<svg") > 5


@pytest.mark.parametrize("world", [2, 13])
def test_several_processes_make_the_same_diagnosis(data: Path, tmp_path: Path, world: int):
    """Also where some of them have no image; one writes the page, all know the diagnosis."""
    models = [TwoLayers() for _ in range(world)]
    page = tmp_path / "report.html"

    def work(distributed: Distributed) -> Report:
        model = models[distributed.rank]
        return evaluate(model, data, batch_size=1, workers=0, report=page, distributed=distributed)

    reports = in_processes(world, work)
    several = page.read_text("utf-8")
    alone = evaluate(TwoLayers(), data, batch_size=1, workers=0, report=page)
    assert reports == [alone] * world
    assert several == page.read_text("utf-8")


def test_a_page_about_nothing_annotated_is_refused_first(data: Path, tmp_path: Path):
    """Without an object there is nothing to compare with; no image is asked about in vain."""
    tree = json.loads((data / "annotations/val.json").read_text())
    tree["annotations"] = []
    (data / "annotations/val.json").write_text(json.dumps(tree))
    model = ColorFinder()
    with pytest.raises(DataError, match=r"none of its 11 images has an annotated object"):
        evaluate(model, data, report=tmp_path / "report.html")
    assert model.asked == 0
    assert not (tmp_path / "report.html").exists()


def test_the_command_takes_saved_detections(data: Path, tmp_path: Path, capsys):
    """A JSON file in the place of a model: table and page; broken, one line and exit code 2."""
    file, page = tmp_path / "found.json", tmp_path / "report.html"
    evaluate(ColorFinder(), data, workers=0, detections=file)
    assert main(["evaluate", str(file), str(data), "--report", str(page)]) == 0
    assert "22 detections" in capsys.readouterr().out
    assert "Error analysis" in page.read_text("utf-8")
    file.write_text("[{}]")
    assert main(["evaluate", str(file), str(data)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"setmatch: {file}: detections[0]: has no")
    assert said.count("\n") == 1
