"""The table of docs/explanation/families.md: what every family can do, tried on small models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from checked_types import unchecked
from setmatch.config import LossWeights, MatchCosts, TrainSettings
from setmatch.deploy.formats.onnx import to_onnx
from setmatch.errors import ConfigError
from setmatch.losses.criterion import Criterion
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.detector import Detector
from setmatch.models.registry import FAMILIES, layouts_of, mask_preset
from setmatch.structures.attention import AttentionMaps
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, Preprocessing
from setmatch.training.optim.freeze import freeze
from small_families import PRESETS, small_model

PAGE = Path(__file__).parents[2] / "docs/explanation/families.md"
NAMES = Categories((0, 1), ("a", "b"))


def _built(family: str) -> Detector:
    return small_model(family, NAMES, Preprocessing(64, 96))


def _batch() -> Batch:
    return Batch.from_images([torch.rand(3, 64, 96)])


def predicts(model: Detector) -> str:
    (found,) = model.eval().detect(_batch(), [(64, 96)]).detections
    assert found.size_px == (64, 96)
    return "yes"


def trains(model: Detector) -> str:
    targets = [Target(torch.tensor([1]), torch.tensor([[0.5, 0.5, 0.4, 0.4]]))] * 2
    batch = Batch.from_images([torch.rand(3, 64, 96)] * 2)
    loss = model.train().objective(lambda each: Criterion(each, MatchCosts(), LossWeights()))
    counts = LossNormalizer.of(targets, model.num_queries)
    loss(model(batch, targets), targets, counts).total.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())
    return "yes"


def explains(model: Detector) -> str:
    try:
        trace = model.eval().attention_trace(_batch())
    except ConfigError:
        return "no"
    decoder = "maps" if isinstance(trace.cross_attention, AttentionMaps) else "points"
    return f"{decoder}, encoder" if len(trace.encoder) else decoder


def has_masks(model: Detector) -> str:
    (family,) = [each for each in FAMILIES if model.card.preset in each.presets]
    named = any(build_masks(name) for name in family.presets)
    return "yes" if named else "no"


def build_masks(name: str) -> bool:
    """Whether a preset has a mask head, or one of the same name has."""
    return mask_preset(name) is not None or "_seg_" in name


def has_weights(model: Detector) -> str:
    (family,) = [each for each in FAMILIES if model.card.preset in each.presets]
    return "yes" if family.published else "no"


def written_as(model: Detector) -> str:
    layouts = {each.name for each in layouts_of(model.card.preset) if each.write is not None}
    return ", ".join(sorted({*layouts, "setmatch"}))


def freezes(model: Detector) -> str:
    """The parts that train.freeze can name, from the first to the last."""
    parts = [part for part in ("backbone", "encoder") if _freezes(model, part)]
    return ", ".join(parts) or "no"


def _freezes(model: Detector, part: str) -> bool:
    try:
        freeze(model, TrainSettings(freeze=part))
    except ConfigError:
        return False
    return not any(each.requires_grad for each in model.get_submodule(part).parameters())


def exports(model: Detector) -> str:
    try:
        with unchecked():
            to_onnx(model.eval())
    except ConfigError:
        return "no"
    return "yes"


COLUMNS: dict[str, Callable[[Detector], str]] = {
    "predict, evaluate": predicts,
    "train": trains,
    "freeze": freezes,
    "explain": explains,
    "masks": has_masks,
    "published weights": has_weights,
    "written as": written_as,
}


def _table() -> dict[str, dict[str, str]]:
    """The cells of the page's table, by row and column."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_the_table_has_every_family_and_every_capability():
    table = _table()
    assert list(table) == list(PRESETS)
    tried = [next(f for f in FAMILIES if preset in f.presets) for preset, _ in PRESETS.values()]
    assert {id(each) for each in tried} == {id(each) for each in FAMILIES}
    assert all([*row] == [*COLUMNS, "export"] for row in table.values())


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_says_what_a_family_can_do(name: str):
    """Each cell is what happens when a small model of the family tries it."""
    model = _built(name)
    found = {column: tried(model) for column, tried in COLUMNS.items()}
    row = _table()[name]
    assert found == {column: row[column] for column in COLUMNS}


@pytest.mark.campaign
@pytest.mark.parametrize("name", PRESETS)
def test_the_table_says_what_is_exported(name: str):
    assert exports(_built(name)) == _table()[name]["export"]
