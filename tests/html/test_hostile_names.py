"""Names of classes, files, runs and models are text on every page, whatever they contain."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from oracle_detector import SIDE, OracleDetector
from setmatch.config import TrainSettings
from setmatch.data.audit.audit import audit
from setmatch.data.audit.html import write_page as write_audit
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.data.ragged import pack
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.demo.html import Outcome
from setmatch.demo.html import write_page as write_demo
from setmatch.deploy.verification.compare_detections import RankedDetections
from setmatch.deploy.web.known_image import KnownImage
from setmatch.deploy.web.runtime import published_runtime
from setmatch.deploy.web.site import write_site
from setmatch.evaluation.compare.compare import Comparison, Row
from setmatch.evaluation.compare.html import write_page as write_comparison
from setmatch.evaluation.compare.profiling import Cost
from setmatch.evaluation.evaluate import evaluate
from setmatch.explanation.explain import explain
from setmatch.explanation.queries.page import write_page as write_queries
from setmatch.explanation.queries.statistics import QueryStatistics
from setmatch.inference.engines.exported_card import ExportedCard
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.training.logging.curves.history import History
from setmatch.training.logging.curves.html import write_page as write_curves
from setmatch.training.logging.live.live_page import LivePage
from setmatch.training.logging.live.recorder import SampleRecorder
from setmatch.training.logging.live.samples import SampleImage, Samples
from setmatch.training.schedule.schedule import make_schedule

FRAGMENTS = (
    *("<script>alert(1)</script>", "</style>", "</script>", "</title>", "<!--", "]]>"),
    *('"', "'", "&", "&amp;", "<", ">", "=", " onload=x ", "{{ 7 * 7 }}", "{% x %}", "a"),
)
# Between letters, because blanks around a class name are left out, which is a finding of its own.
HOSTILE = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4).map(
    lambda parts: f"a{''.join(parts)}z"
)
WORST = "</style></script></title>\"><script>alert(1)</script>&'"
PLAIN = "plain"


class Structure(HTMLParser):
    """The tags of a page with the names of their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def structure(page: Path) -> Structure:
    parsed = Structure()
    parsed.feed(page.read_text("utf-8"))
    parsed.close()
    return parsed


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 1, 3, SIDE, 2, 0, panoptic=True)
    return open_dataset(folder, "val", "panoptic")


def renamed(dataset: DetectionDataset, name: str) -> DetectionDataset:
    """The data set with `name` in the names of all classes and files."""
    names = tuple(f"{name} {number}" for number in range(len(dataset.categories)))
    files, offsets = pack([f"{name} {number}.png" for number in range(len(dataset))])
    categories = Categories(dataset.categories.ids, names, dataset.categories.stuff)
    return replace(dataset, categories=categories, names=files, name_offsets=offsets)


def audit_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    """Two splits that share an image, in a folder of that name; a slash makes a subfolder."""
    data = folder / "data"
    (data / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        file = data / "images" / split / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0))
        Image.fromarray(noise.numpy().astype(np.uint8)).save(file)
        annotation = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 100}
        tree = {
            "images": [{"id": 1, "file_name": f"{name}.png", "width": 64, "height": 64}],
            "annotations": [{"id": 1, "bbox": [1, 1, 10, 10], **annotation}],
            "categories": [{"id": 1, "name": name}, {"id": 2, "name": f"{name} without boxes"}],
        }
        (data / "annotations" / f"{split}.json").write_text(json.dumps(tree))
    write_audit(audit(data, has_gpu=False), folder / "page.html")
    return folder / "page.html"


def report_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    dataset = replace(renamed(scenes, name), images=folder / "images")
    for image in range(len(scenes)):
        dataset.path(image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scenes.path(image), dataset.path(image))
    page = folder / "page.html"
    evaluate(OracleDetector(dataset, wrong=0.4), dataset, workers=0, report=page, name=name)
    return page


def comparison_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    report = evaluate(OracleDetector(scenes, wrong=0.4), scenes, workers=0)
    rows = [Row(name, name, Cost(1, 1.0, seconds, 1.0, 1.0, 1), report) for seconds in (0.1, 0.2)]
    write_comparison(Comparison(tuple(rows), name, name, 1), folder / "page.html")
    return folder / "page.html"


def explain_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    shape = {"dim": 16, "heads": 1, "ffn_dim": 8, "num_queries": 3, "decoder_layers": 1}
    categories = Categories((1,), (name,))
    torch.manual_seed(0)
    model = build(ModelCard("detr_r18_tiny", shape, categories, Preprocessing(32, 32)))
    explanation = explain(model.eval(), Image.new("RGB", (32, 32)))
    replace(explanation, name=name).save(folder / "page.html")
    return folder / "page.html"


def queries_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    random = np.random.default_rng(0)
    statistics = QueryStatistics(
        ModelCard(name, {}, Categories((1,), (name,))),
        name,
        0.5,
        False,
        random.uniform(0.1, 0.5, (12, 3, 4)).astype(np.float32),
        np.tile(np.float32([0.9, 0.7, 0.1]), (12, 1)),
        np.zeros((12, 3), dtype=np.int64),
    )
    write_queries(statistics, (), folder / "page.html")
    return folder / "page.html"


def log_rows(name: str) -> list[dict]:
    return [
        {"kind": "train", "step": 1, "loss": 2.0, "lr": 0.1},
        {"kind": "val", "step": 1, "AP": 0.25, "AP50": 0.5},
        {"kind": "watch", "step": 1, "says": name},
    ]


def curves_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    histories = [History(f"{name} {number}", tuple(log_rows(name))) for number in range(2)]
    write_curves(histories, folder / "page.html")
    return folder / "page.html"


def live_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    run = folder / name.replace("/", "")
    plan = make_schedule(100, TrainSettings(epochs=10, batch_size=10))
    detector = OracleDetector(scenes)
    detector.card = replace(detector.card, categories=renamed(scenes, name).categories)
    recorder = SampleRecorder(run, detector, None)
    image = SampleImage(name, "data:image/jpeg;base64,", (8, 8), ((0, 0, 500, 500, 0, 100),))
    recorder.samples = Samples(batch=(image,))
    recorder.close(1, {"AP": 0.25, "per_class": {name: {"AP": 0.25, "boxes": 3}}})
    LivePage(run, plan, log_rows(name), recorder).end(name)
    return run / "live.html"


def demo_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log_rows(name)))
    dataset = replace(renamed(scenes, name), images=folder)
    report = evaluate(OracleDetector(scenes, wrong=0.4), scenes, workers=0)
    report = replace(report, per_class={f"{name} {k}": v for k, v in report.per_class.items()})
    outcome = Outcome(
        name, 1, 1, 1.0, 1.0, 0.5, folder, dataset, replace(report, panoptic=None), ()
    )
    write_demo(outcome, folder / "page.html")
    return folder / "page.html"


def browser_page(name: str, folder: Path, scenes: DetectionDataset) -> Path:
    """The page that runs a model, whose file may be any."""
    card = ModelCard(name, {}, Categories((1,), (name,)), Preprocessing(32, 32), name, name)
    exported = ExportedCard(card, name, {}, 1, False, False, False, 0.5, {})
    known = RankedDetections(torch.tensor([0.9]), torch.tensor([0]), torch.zeros(1, 4))
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "site").mkdir()
    image = KnownImage("data:,", 0.5, known)
    write_site(folder / "site", folder / "model.onnx", exported, image, published_runtime())
    return folder / "site" / "index.html"


PAGES = (
    *(audit_page, report_page, comparison_page, explain_page, queries_page),
    *(curves_page, live_page, demo_page, browser_page),
)


@pytest.fixture(scope="module", params=PAGES)
def write(request: pytest.FixtureRequest) -> Callable[[str, Path, DetectionDataset], Path]:
    """A function that writes a page with a name, and returns its path."""
    return request.param


@pytest.fixture(scope="module")
def plain(
    write: Callable[[str, Path, DetectionDataset], Path],
    scenes: DetectionDataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> Structure:
    """The structure of the page with plain names."""
    return structure(write(PLAIN, tmp_path_factory.mktemp("plain"), scenes))


@given(name=HOSTILE)
@example(name=WORST)
@settings(
    max_examples=max(2, settings().max_examples // 50),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_hostile_names_do_not_change_the_structure_of_a_page(
    tmp_path_factory: pytest.TempPathFactory,
    scenes: DetectionDataset,
    write: Callable[[str, Path, DetectionDataset], Path],
    plain: Structure,
    name: str,
):
    """The tags and their attributes are those of the page with plain names, the names are text.

    Labels on images are not compared: longer ones find fewer free places.
    """
    hostile = structure(write(name, tmp_path_factory.mktemp("hostile"), scenes))
    labels = ("text", "x", "y", "font-size", "stroke-width")
    assert [tag for tag in hostile.tags if tag != labels] == [
        tag for tag in plain.tags if tag != labels
    ]
    assert name in hostile.text
