"""Evaluate a folder of annotated images, in one process and in several."""

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
    """Detects the red and the blue pixels; its boxes are slightly too wide."""

    def __init__(self, categories: Categories = KNOWN) -> None:
        nn.Module.__init__(self)
        self.class_loss, self.mask_head, self.num_queries = Softmax(), None, 2
        self.card = ModelCard("stub", {}, categories, Preprocessing(64, 96))
        self.images = 0
        self.eval()  # a model in training mode would be copied, and the copy would count

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        assert not batch.padded
        self.images += len(batch.pixels)
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
    """Eleven images of three shapes with a red and a blue box each; one has no annotations."""
    return write_images(tmp_path, 11)


def write_images(folder: Path, count: int) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, annotations = [], []
    for number in range(count):
        height, width = SIZES_PX[number % 3]
        image = Image.new("RGB", (width, height), (120, 120, 120))
        name, image_id = f"{number:02d}.png", 1000 - 7 * number
        for category_id, color, left in ((7, "red", 4), (9, "blue", 36)):
            box = (left, 2 + number % 11, 16 + number % 11, 20)
            image.paste(color, (box[0], box[1], box[0] + box[2], box[1] + box[3]))
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "bbox": box}
            annotation |= {"category_id": category_id, "area": box[2] * box[3], "iscrowd": 0}
            annotations += [annotation] if number != 4 else []
        image.save(folder / "images" / name)
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
    categories = [{"id": 9, "name": "blue"}, {"id": 7, "name": "red"}, {"id": 2, "name": "[b]"}]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations/val.json").write_text(json.dumps(tree))
    return folder


def test_metrics_equal_those_of_pycocotools(data: Path, tmp_path: Path):
    """pycocotools computes the metrics of the JSON file from the file of detections."""
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
    per_class, thresholds = report.pop("per_class"), report.pop("thresholds")
    assert len(report) == 12
    assert set(thresholds) <= set(per_class)
    numbers = [-1 if value is None else value for value in report.values()]
    assert numbers == pytest.approx(theirs.stats.tolist(), abs=1e-12)
    assert 0.3 < report["AP"] < 1
    assert per_class["red"]["boxes"] == 10
    assert per_class["[b]"] == {"AP": None, "AP50": None, "boxes": 0}


def test_classes_are_matched_by_name(data: Path):
    report = evaluate(ColorFinder(), data, workers=0)
    assert {name: numbers.AP50 for name, numbers in report.per_class.items()} == {
        "[b]": -1,
        "red": pytest.approx(report.AP50, abs=0.2),
        "blue": pytest.approx(report.AP50, abs=0.2),
    }
    assert report.per_class["red"].AP50 > 0.8 < report.per_class["blue"].AP50
    assert (report.images, report.detections, report.unknown) == (11, 22, ("[b]",))


def test_classes_that_only_the_model_or_only_the_data_has_change_no_other_class(data: Path):
    """The former are ignored; the latter count as missed, and the report names them."""
    report = evaluate(ColorFinder(Categories((1, 2, 3), ("blue", "x", "y"))), data, workers=0)
    whole = evaluate(ColorFinder(), data, workers=0)
    assert report.per_class["blue"] == whole.per_class["blue"]
    assert report.per_class["red"].AP == 0
    assert report.unknown == ("[b]", "red")


def test_a_model_without_any_class_of_the_data_is_refused(data: Path):
    """The error names the classes of both."""
    unrelated = ColorFinder(Categories((1, 2, 3), ("cat", "dog", "fox")))
    with pytest.raises(DataError, match=r"'\[b\]', 'red', 'blue'.*'cat', 'dog', 'fox'"):
        evaluate(unrelated, data)


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_return_the_same_report(data: Path, tmp_path: Path, world: int):
    """rf-detr #1507: each image is processed once, and every process has the same report."""
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
    assert sum(model.images for model in models) == 11
    assert all(model.images for model in models)


@pytest.mark.promise(15, cases=300)
@pytest.mark.campaign
def test_one_to_three_processes_evaluate_1_to_100_images_alike(tmp_path: Path):
    """Each image is evaluated once, also where some of the processes have none."""
    for count in range(1, 101):
        data = write_images(tmp_path / str(count), count)
        alone = evaluate(ColorFinder(), data, workers=0)
        assert alone.images == count
        for world in (1, 2, 3):
            models = [ColorFinder() for _ in range(world)]

            def work(distributed: Distributed, models=models, data=data) -> Report:
                model = models[distributed.rank]
                return evaluate(model, data, batch_size=2, workers=0, distributed=distributed)

            assert in_processes(world, work) == [alone] * world
            assert sum(model.images for model in models) == count


def damage(path: Path) -> None:
    """Overwrite bytes in the middle of a PNG, which only decoding reveals."""
    content = path.read_bytes()
    path.write_bytes(content[:60] + b"????" + content[64:])


@pytest.mark.parametrize("damage_file", [damage, lambda path: path.write_bytes(b"no image")])
@pytest.mark.parametrize("world", [1, 2])
def test_objects_of_unreadable_images_count_as_missed(data, tmp_path, damage_file, world):
    """The metrics equal those of a model that detects nothing in the image."""

    def work(distributed: Distributed) -> Report:
        return evaluate(ColorFinder(), data, batch_size=2, workers=0, distributed=distributed)

    file = tmp_path / "found.json"
    before = evaluate(ColorFinder(), data, workers=0, detections=file)
    damage_file(data / "images/05.png")
    reports = in_processes(world, work)
    assert reports == [reports[0]] * world
    (message,) = reports[0].unreadable
    assert "count as missed (2)" in message
    assert "05.png: cannot be read" in message
    assert reports[0].per_class["red"].boxes == before.per_class["red"].boxes == 10
    others = [each for each in json.loads(file.read_text()) if each["image_id"] != 965]
    file.write_text(json.dumps(others))
    nothing_detected = evaluate(file, open_dataset(data, "val"))
    assert reports[0].numbers() == nothing_detected.numbers()
    assert reports[0].AP < before.AP
    assert reports[0].to_json()["unreadable"] == [message]
    page = tmp_path / "report.html"
    evaluate(ColorFinder(), data, workers=0, report=page)
    assert "count as missed" in page.read_text()


def test_an_error_in_one_process_is_raised_in_all(data: Path):
    damage(data / "images/05.png")
    damage(data / "images/06.png")

    def work(distributed: Distributed) -> Report:
        return evaluate(ColorFinder(), data, batch_size=2, workers=0, distributed=distributed)

    outcomes = in_processes(2, work)
    assert all(isinstance(outcome, DataError) for outcome in outcomes)
    assert all("2 of 11 images cannot be read" in str(outcome) for outcome in outcomes)


@pytest.mark.parametrize("workers", [0, 2])
def test_metrics_do_not_depend_on_batch_size_and_workers(data: Path, workers: int):
    index = open_dataset(data, "val")
    expected = evaluate(ColorFinder(), data, workers=0)
    assert evaluate(ColorFinder(), index, batch_size=1, workers=workers) == expected


def test_a_training_model_stays_in_training_mode(data: Path):
    model = ColorFinder().train()
    evaluate(model, data, workers=0)
    assert model.training
    assert torch.is_grad_enabled()


def test_unwritable_outputs_are_refused_before_the_evaluation(data: Path, tmp_path: Path):
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
    assert model.images == 0


@pytest.mark.parametrize(("boxes", "counted"), [(100, 100), (101, 150)])
def test_more_than_a_hundred_objects_raise_the_limit(data: Path, boxes: int, counted: int):
    """cocoapi #558, rf-detr #743: all queries of the model count if an image is that crowded."""

    model = ColorFinder()
    model.num_queries = 150

    tree = json.loads((data / "annotations/val.json").read_text())
    template = tree["annotations"][0]
    tree["annotations"] = [template | {"id": number} for number in range(1, boxes + 1)]
    (data / "annotations/val.json").write_text(json.dumps(tree))
    assert evaluate(model, data, workers=0).max_detections == counted


class TwoLayers(ColorFinder):
    """Predicts the same boxes in both layers, but shifted by a quarter in the first."""

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        (main,) = super().forward(batch)
        logits, cxcywh = main.predictions.logits, main.predictions.cxcywh
        shifted = cxcywh * torch.tensor([1.0, 1.25, 1.0, 1.0])
        both = Predictions(logits.repeat(2, 1, 1, 1), torch.cat([shifted, cxcywh]))
        return (PredictionGroup("main", both),)


def test_one_pass_over_the_images_measures_every_layer(data: Path, tmp_path: Path):
    """The last layer's AP is the report's."""
    model = TwoLayers()
    outputs = {"json": tmp_path / "report.json", "report": tmp_path / "report.html"}
    report = evaluate(model, data, workers=0, **outputs)
    assert report.diagnosis is not None
    first, last = report.diagnosis.layers
    assert (last.layer, last.AP, last.AP50) == (2, report.AP, report.AP50)
    assert first.AP < last.AP
    assert model.images == 11
    plain = evaluate(TwoLayers(), data, workers=0)
    assert plain.numbers() == report.numbers()
    assert plain.diagnosis is None
    tree = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert tree["diagnosis"]["layers"][1]["AP"] == report.AP
    assert (tmp_path / "report.html").read_text("utf-8").count("<svg") > 5


@pytest.mark.parametrize("world", [2, 13])
def test_several_processes_return_the_same_diagnosis(data: Path, tmp_path: Path, world: int):
    """Also if some of them have no image."""
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


def test_a_page_without_annotated_objects_is_refused_first(data: Path, tmp_path: Path):
    tree = json.loads((data / "annotations/val.json").read_text())
    tree["annotations"] = []
    (data / "annotations/val.json").write_text(json.dumps(tree))
    model = ColorFinder()
    with pytest.raises(DataError, match=r"none of its 11 images has an annotated object"):
        evaluate(model, data, report=tmp_path / "report.html")
    assert model.images == 0
    assert not (tmp_path / "report.html").exists()


def test_the_command_evaluates_saved_detections(data: Path, tmp_path: Path, capsys):
    """An invalid file gives one line on stderr, and exit code 2."""
    file, page = tmp_path / "found.json", tmp_path / "report.html"
    evaluate(ColorFinder(), data, workers=0, detections=file)
    assert main(["evaluate", str(file), str(data), "--report", str(page)]) == 0
    assert "22 detections" in capsys.readouterr().out
    assert "Error analysis" in page.read_text("utf-8")
    file.write_text("[{}]")
    assert main(["evaluate", str(file), str(data)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"setmatch: {file}: detections[0]: has no")
    assert error.count("\n") == 1
