"""The published recipes from their first step to their last, with each switch seen by its effect.

Small models, images and numbers of epochs; the fractions of a run are those of the recipes.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from known_models import SMALL_DEIMV2, SMALL_DFINE, SMALL_RTDETR
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.losses import criterion
from setmatch.models.load import load, save
from setmatch.models.registry import build
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import ModelCard, Preprocessing
from setmatch.training.loop import saver
from setmatch.training.step import TrainStep
from setmatch.training.train import train

pytestmark = pytest.mark.thorough

IMAGES, BATCH = 8, 4
WARMUP = 6  # steps
BY_QUALITY, USUAL = (0, 0, 0, 1), (2, 5, 2, 0)  # class, L1, GIoU, quality
SMALL = {"dfine": SMALL_DFINE, "deimv2": SMALL_DEIMV2, "rtdetr": SMALL_RTDETR}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, IMAGES, 2, 64, 0, 0)
    return folder


class Record:
    """What each step of a run had, by its epoch."""

    def __init__(self, own: dict[int, int]) -> None:
        self.own = own  # objects of each image
        self.rates: list[list[float]] = []
        self.combined: list[int] = []  # epochs with images that have more objects than their own
        self.resized: list[int] = []  # epochs with images of other sides
        self.costs: dict[tuple[float, ...], list[int]] = {}
        self.returns: list[int] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    @property
    def epoch(self) -> int:
        return len(self.rates) * BATCH // IMAGES

    def add(self, train_step: TrainStep, parts: Any) -> None:
        self.weights.append({k: v.clone() for k, v in train_step.detector.state_dict().items()})
        pairs = [pair for each in parts for pair in zip(each.targets, each.image_ids, strict=True)]
        if any(len(target) > self.own[image] for target, image in pairs):
            self.combined.append(self.epoch)
        if any(max(each.batch.pixels.shape[-2:]) > 64 for each in parts):
            self.resized.append(self.epoch)
        groups = train_step.optimizer.param_groups
        self.rates.append([group["lr"] for group in groups])

    @property
    def factors(self) -> list[float]:
        """The rate of each step by the highest; all groups have the same."""
        highest = [max(rates) for rates in zip(*self.rates, strict=True)]
        factors = [[a / b for a, b in zip(rates, highest, strict=True)] for rates in self.rates]
        assert all(each == pytest.approx([each[0]] * len(each)) for each in factors)
        return [each[0] for each in factors]


def _run(name: str, epochs: int, data: Path, out: Path, patch: pytest.MonkeyPatch) -> Record:
    recipe, dataset = load_recipe(f"published/{name}"), open_dataset(data, "train")
    small = next(v for k, v in SMALL.items() if recipe.model.preset.startswith(k))
    arguments = {**small, **recipe.model.arguments}
    card = ModelCard(recipe.model.preset, arguments, dataset.categories, Preprocessing(64, 64))
    torch.manual_seed(0)
    save(build(card), out / "start")
    own = {int(id_): len(dataset.target(at)) for at, id_ in enumerate(dataset.image_ids)}
    record, step = Record(own), TrainStep.step
    start_matching, return_to = criterion.start_matching, saver.return_to

    def recorded_step(self: TrainStep, parts: Any, *more: Any) -> Any:
        record.add(self, parts)
        return step(self, parts, *more)

    def recorded_matching(*given: Any) -> Any:
        costs = given[4]
        used = (costs.class_, costs.l1, costs.giou, costs.quality)
        record.costs.setdefault(used, []).append((len(record.rates) - 1) * BATCH // IMAGES)
        return start_matching(*given)

    def recorded_return(*given: Any) -> None:
        detector = given[1].detector
        states = [*record.weights, {k: v.clone() for k, v in detector.state_dict().items()}]
        return_to(*given)
        now = detector.state_dict()
        assert any(all(torch.equal(now[key], each[key]) for key in now) for each in states)
        record.returns.append(record.epoch)

    patch.setattr(TrainStep, "step", recorded_step)
    patch.setattr(criterion, "start_matching", recorded_matching)
    patch.setattr(saver, "return_to", recorded_return)
    sides = ("data.short_side_px=64", "data.long_side_px=64", "data.workers=0")
    warmup = WARMUP if recipe.train.warmup_steps else 0
    sizes = (f"train.batch_size={BATCH}", "train.micro_batch=4", f"train.warmup_steps={warmup}")
    train(
        data,
        out=out / "run",
        recipe=f"published/{name}",
        weights=out / "start",
        overrides=(*sides, *sizes, f"train.epochs={epochs}", "train.ema_warmup_steps=10"),
        device="cpu",
    )
    assert len(record.rates) == epochs * IMAGES // BATCH
    load(out / "run")
    return record


@pytest.mark.parametrize(
    ("name", "epochs", "combined", "ends", "falls", "by_quality", "returns"),
    [
        ("deim_dfine_s", 33, (4, 16), 30, (16, 30), None, 30),
        ("deimv2_pico", 50, (4, 25), 40, (25, 47), 45, 47),
        ("rtdetr_r50", 6, None, 6, None, None, None),
    ],
)
def test_every_phase_of_a_published_training_is_reached(
    name: str,
    epochs: int,
    combined: tuple[int, int] | None,  # from this epoch on, and no more from that
    ends: int,  # the epoch from which images are only flipped
    falls: tuple[int, int] | None,  # epochs between which the rate falls by half
    by_quality: int | None,
    returns: int | None,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    record = _run(name, epochs, data, tmp_path, monkeypatch)
    spans = (record.combined[0], record.combined[-1] + 1) if record.combined else None
    assert spans == combined
    if load_recipe(f"published/{name}").data.augment == "ssd_any_size":
        assert ends - 3 <= record.resized[-1] < ends
    factors, first = record.factors, (WARMUP if record.factors[0] < 1 else 0)
    power = 2 if "deim" in name else 1
    assert factors[:first] == pytest.approx([((s + 1) / WARMUP) ** power for s in range(first)])
    per_epoch = IMAGES // BATCH
    flat_until, low_from = (each * per_epoch for each in falls or (epochs, epochs))
    assert factors[first:flat_until] == pytest.approx([1.0] * (flat_until - first), abs=1e-2)
    assert factors[low_from:] == pytest.approx([0.5] * (len(factors) - low_from), abs=1e-2)
    falling = factors[flat_until:low_from]
    assert falling == sorted(falling, reverse=True)
    late = record.costs.pop(BY_QUALITY, [])
    assert sorted(set(late)) == list(range(by_quality, epochs) if by_quality else [])
    assert sorted(set(record.costs.pop(USUAL))) == list(range(by_quality or epochs))
    assert not record.costs
    assert (record.returns[0] if record.returns else None) == returns
    stem = [key for key in record.weights[0] if key.startswith("backbone.stem")]
    assert stem
    assert (name == "rtdetr_r50") == all(
        torch.equal(record.weights[0][k], record.weights[-1][k]) for k in stem
    )
