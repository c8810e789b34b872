"""Compare models: counts that are known, a row for each candidate, and errors."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.nn import functional as F

from oracle_detector import SIDE, OracleDetector
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError, DataError, WeightsError
from setmatch.evaluation.compare import checks
from setmatch.evaluation.compare import compare as compare_module
from setmatch.evaluation.compare.compare import MASKS, Comparison, Row, compare
from setmatch.evaluation.compare.html import write_page
from setmatch.evaluation.compare.profiling import Cost, count_macs, peak_bytes
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.timing import time_interleaved
from setmatch.models.detector import Detector
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.structures.outputs import ModelOutput

SMALL = {"dim": 16, "heads": 2, "ffn_dim": 16, "num_queries": 8, "denoising_queries": 4}
QUICK = {"rounds": 1, "batch_size": 1, "workers": 0, "short_side_px": 64}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three small scenes."""
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, 1, 3, 64, 0, 0)
    return folder


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    """A model on disk, and the file of its detections."""
    folder = tmp_path_factory.mktemp("saved") / "ours"
    torch.manual_seed(0)
    index = open_dataset(data, "val")
    card = ModelCard("setmatch_n", SMALL, index.categories, Preprocessing(64, 128))
    save(build(card), folder)
    found = folder.parent / "found.json"
    evaluate(build(card).eval(), index, workers=0, detections=found)
    return folder, found


class CountedModel(Detector):
    """Does a little arithmetic that can be counted by hand."""

    def __init__(self):
        super().__init__()
        self.card = ModelCard("counted", {}, Categories((1,), ("a",)), Preprocessing(8, 8))
        self.layer = torch.nn.Linear(6, 10, bias=False)

    def detect(self, batch, sizes_px):
        self.work()
        nothing = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        found = [Detections(*nothing, self.card.categories, size_px) for size_px in sizes_px]
        return ModelOutput(found, None)

    def work(self):
        """Sixty multiply-adds per row."""
        self.layer(torch.ones(7, 6))


class AttentionModel(CountedModel):
    """Two heads, five queries, seven keys, width four: 2 · 5 · 7 · 4 multiply-adds a head."""

    def work(self):
        """Run attention without and with a mask: the kernels differ, but not the count."""
        q, k = torch.ones(1, 2, 5, 4), torch.ones(1, 2, 7, 4)
        F.scaled_dot_product_attention(q, k, k)
        F.scaled_dot_product_attention(q, k, k, attn_mask=torch.ones(1, 1, 5, 7).bool())


class SamplingModel(CountedModel):
    """Reads 3 × 4 × 5 values of a feature map, each a mix of four."""

    def work(self):
        """Sample bilinearly, as deformable attention does."""
        F.grid_sample(torch.ones(1, 3, 8, 8), torch.zeros(1, 4, 5, 2), align_corners=False)


class AllocatingModel(CountedModel):
    """Has at most three tensors of 4000 bytes at the same time, of five in all."""

    def work(self):
        """Allocate, free, view, and allocate again."""
        a = torch.ones(1000)
        b = a + 1
        c = b.view(10, 100) + 1
        del a, b
        d = c + 1
        del c
        assert (d + 1).shape == (10, 100)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (CountedModel(), 7 * 60),
        (AttentionModel(), 2 * 2 * 2 * 140),
        (SamplingModel(), 3 * 4 * 5 * 4),
    ],
)
def test_multiply_adds_are_counted_once(model, expected):
    """Counts matrix products, attention on a CPU, and sampling."""
    batch = Batch.from_images([torch.zeros(3, 8, 8)])
    assert count_macs(model.eval(), batch) == expected
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_memory_counts_tensors_that_exist_at_the_same_time():
    """Weights, the image, and the largest sum of storages; views and freed tensors do not count."""
    batch = Batch.from_images([torch.zeros(3, 8, 8)])
    assert peak_bytes(AllocatingModel().eval(), batch) == 240 + 768 + 3 * 4000


def test_candidates_take_turns():
    """The first round is not counted."""
    order = []
    taken = time_interleaved([[lambda: order.append("a")], [lambda: order.append("b")]], 2)
    assert order == ["a", "b"] * 3
    assert [len(seconds) for seconds in taken] == [2, 2]


@pytest.mark.parametrize(
    ("load", "scatters", "doubts"), [(0.1, (0.1, 0.0), 0), (0.1, (0.1, 0.3), 1), (2.0, (0.3,), 2)]
)
def test_a_busy_machine_is_noticed(load, scatters, doubts: int, tmp_path: Path):
    """On the page as in the table; without times there is nothing to doubt."""
    costs = [Cost(1, 1.0, 0.1, 9.0, 1.0, 1, each) for each in scatters]
    rows = [Row(f"model {each.scatter}", "", each, None) for each in costs]
    found = Comparison(tuple(rows), "", "noise", 1, load)
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert len(found.doubts()) == page.count("Do not trust these times") == doubts
    assert Comparison((Row("file", "", None, None),), "", "", 1, 9.0).doubts() == []


@pytest.fixture(scope="module")
def comparison(data, saved):
    """A comparison of a model, a preset with random weights, and saved detections."""
    folder, found = saved
    return compare([str(folder), "random:setmatch_n", str(found)], data, **QUICK)


def test_each_kind_of_candidate_has_a_row(comparison, saved):
    """Random weights have no AP, and saved detections no cost."""
    ours, random, file = comparison.rows
    assert [row.name for row in comparison.rows] == ["ours", "random:setmatch_n", "found"]
    assert ours.cost.parameters < random.cost.parameters
    assert ours.cost.speedup == 1
    assert ours.cost.latency_s > 0
    assert ours.cost.gmacs > 0
    assert random.precision is None
    assert "speed only" in random.note
    assert file.cost is None
    assert file.precision.numbers().keys() == ours.precision.numbers().keys()


def test_saved_detections_have_the_ap_of_their_model(comparison, data, saved):
    from setmatch.evaluation.metrics.coco import average_precision
    from setmatch.evaluation.saved_detections import read_detections

    index = open_dataset(data, "val")
    results = read_detections(saved[1], index)
    assert len(results) == len(json.loads(saved[1].read_text()))
    again = average_precision(index, results)
    assert again.numbers() == comparison.rows[2].precision.numbers()


def test_long_names_are_not_cut_off(comparison, tmp_path):
    names = [f"random:fasterrcnn_resnet50_fpn_{number}" for number in range(len(comparison.rows))]
    rows = [replace(row, name=name) for row, name in zip(comparison.rows, names, strict=True)]
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(replace(comparison, rows=tuple(rows)).table())
    assert "…" not in console.export_text()


def test_text_json_and_page_show_the_same_numbers(comparison, tmp_path):
    """The page makes no network request."""
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(comparison.table())
    text = console.export_text()
    comparison.write_json(tmp_path / "c.json")
    tree = json.loads((tmp_path / "c.json").read_text())
    write_page(comparison, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert [row["name"] for row in tree["rows"]] == [row.name for row in comparison.rows]
    assert tree["rows"][1]["precision"] is None
    for row in comparison.rows:
        assert row.name in text
        assert row.name in page
    for _, rows in comparison.tables():
        assert all(cell in page and cell in text for cells in rows for cell in cells)
    assert max(map(len, text.splitlines()[:12])) <= 80
    assert not re.search(r"(src|href)=|https?://", page)


def test_without_data_only_the_cost_is_measured():
    alone = compare(["setmatch_n"], rounds=1, batch_size=1, short_side_px=64)
    assert [heads[0] for heads, _ in alone.tables()] == ["params"]
    assert alone.rows[0].cost.images_per_s > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{]", "not valid JSON.*column 3"),
        ('{"annotations": []}', "not a list of detections.*COCO results"),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]',
            r"detections\[0\]: has no 'score'",
        ),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]',
            r"detections\[0\]: 'bbox' is \[1, 2, 3\]",
        ),
        ('[{"image_id": 1, "category_id": 99, "bbox": [1, 2, 3, 4], "score": 1}]', "id 99"),
        (
            '[{"image_id": 77, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
            r"detections\[0\]: image_id 77",
        ),
    ],
)
def test_invalid_detections_are_refused_before_the_timing(data, tmp_path, content, message):
    (tmp_path / "found.json").write_text(content)
    with pytest.raises(DataError, match=message):
        compare([str(tmp_path / "found.json"), "setmatch_n"], data, **QUICK)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """Three scenes with masks, which the oracle knows."""
    folder = tmp_path_factory.mktemp("segmented")
    write_scenes(folder, 1, 3, SIDE, 2, 0, panoptic=True)
    return open_dataset(folder, "val", "panoptic")


class OtherClasses(OracleDetector):
    """Knows the boxes, but calls them by names that the data does not have."""

    def __init__(self, index):
        super().__init__(index)
        ids = self.card.categories.ids
        names = ("zebra", "yacht", *(f"boat {each}" for each in ids))[: len(ids)]
        self.card = replace(self.card, categories=Categories(ids, names))


class OneSize(OracleDetector):
    """Takes no image of the size of the data, as an exported model may."""

    def forward(self, batch, targets=()):
        raise RuntimeError("expected 1 x 3 x 640 x 640")


class Diverged(OracleDetector):
    """Predicts NaN, but not on the images that are tried before the work."""

    asked = 0

    def forward(self, batch, targets=()):
        Diverged.asked += 1
        if Diverged.asked > 2:
            raise WeightsError("the model predicts scores that are not finite")
        return super().forward(batch, targets)


@pytest.mark.parametrize(
    ("unsuitable", "note", "is_timed"),
    [
        (OtherClasses, r"AP is not measured: .*no class in common.*'zebra', 'yacht'", True),
        (OneSize, "is not measured: expected 1 x 3 x 640 x 640", False),
        (Diverged, "is not measured: the model predicts scores that are not finite", False),
    ],
)
def test_an_unsuitable_model_keeps_its_row_and_takes_no_other_along(
    segmented, unsuitable, note, is_timed
):
    """It has dashes and a note with its name."""
    models = [OracleDetector(segmented), unsuitable(segmented), OracleDetector(segmented)]
    found = compare(models, segmented, **QUICK)
    assert [row.precision is None for row in found.rows] == [False, True, False]
    assert [row.cost is None for row in found.rows] == [False, not is_timed, False]
    assert re.search(note, found.rows[1].note)
    assert found.tables()[1][1][1] == ("–",) * 6
    assert any(line.startswith(f"{found.rows[1].name}: ") for line in found.notes())


def test_models_are_checked_before_any_is_evaluated(segmented, monkeypatch):
    """All of them, because an evaluation may take hours."""
    seen, check = [], checks.dataset_class_indices
    monkeypatch.setattr(
        checks, "dataset_class_indices", lambda *given: seen.append("checked") or check(*given)
    )
    monkeypatch.setattr(
        compare_module,
        "evaluate",
        lambda *given, **options: seen.append("evaluated") or evaluate(*given, **options),
    )
    oracle = OracleDetector(segmented)
    compare([oracle, OtherClasses(segmented), oracle], segmented, **QUICK)
    assert seen == ["checked"] * 3 + ["evaluated"] * 2


def test_without_any_suitable_model_the_first_error_is_raised(segmented, monkeypatch):
    monkeypatch.setattr(compare_module, "evaluate", None)
    with pytest.raises(DataError, match="no class in common with the model"):
        compare([OtherClasses(segmented), "random:setmatch_n"], segmented, **QUICK)


def test_invalid_sources_are_refused(data, saved, tmp_path):
    """Unknown names (with the nearest name), runs without weights, and missing splits."""
    with pytest.raises(WeightsError, match="did you mean setmatch_n"):
        compare(["setmatch_nn"], data, **QUICK)
    with pytest.raises(ConfigError, match="did you mean setmatch_n"):
        compare(["random:setmatch_nn"], data, **QUICK)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(WeightsError, match="neither a run folder"):
        compare([str(tmp_path / "run")], data, **QUICK)
    with pytest.raises(DataError, match="no split 'test'"):
        compare(["setmatch_n"], data, split="test", **QUICK)
    with pytest.raises(ConfigError, match="--data"):
        compare([str(saved[1])], None, **QUICK)
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([], data)


def test_several_processes_are_refused_at_once(data, monkeypatch):
    """Models that are timed at the same time would slow each other down."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="one model at a time: start a single process, not 2"):
        compare(["setmatch_n"], data, **QUICK)


def test_mask_metrics_have_a_table_of_their_own(tmp_path):
    """A candidate without masks has dashes."""
    write_scenes(tmp_path, 1, 3, SIDE, 2, 0, panoptic=True)
    index = open_dataset(tmp_path, "val", "panoptic")
    oracle = evaluate(OracleDetector(index), index, workers=0)
    boxes = replace(oracle, panoptic=None, masks=None)
    rows = (Row("oracle", "", None, oracle), Row("boxes", "", None, boxes))
    found = Comparison(rows, "scenes", "", 1)
    assert found.tables()[-1] == (MASKS, [("100.0",) * len(MASKS), ("–",) * len(MASKS)])
    assert found.to_json()["rows"][0]["masks"]["mask AP"] == 1
    assert found.to_json()["rows"][1]["masks"] is None
    write_page(found, tmp_path / "c.html")
    assert "PQ things" in (tmp_path / "c.html").read_text()
    assert "AP of boxes, PQ and mask AP in percent" in found.notes()[0]
    assert len(Comparison(rows[1:], "scenes", "", 1).tables()) == 1
