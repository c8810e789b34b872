"""Seam: a criterion of one's own replaces the set loss, as an object or a factory."""

from dataclasses import dataclass, replace

import pytest
from torch import Tensor

import setmatch as sm
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.losses.criterion import Criterion
from setmatch.training.logging.writers import read_log

OVERRIDES = (
    *("data.short_side_px=64", "data.long_side_px=64", "data.workers=0", "data.augment=none"),
    *("train.batch_size=4", "train.micro_batch=4", "train.log_every=1"),
)


@dataclass(frozen=True)
class CenterLosses:
    total: Tensor
    terms: dict[str, Tensor]


class CenterLoss:
    def __call__(self, outputs, targets, normalizer):
        predictions = outputs[0].predictions
        center = (predictions.cxcywh[..., :2] - 0.5).square().mean()
        total = center + 0 * predictions.logits.sum()  # every parameter gets a gradient
        return CenterLosses(total, {"loss": total.detach(), "center": center.detach()})


def double_l1(class_loss, costs, weights):
    return Criterion(class_loss, costs, weights.model_copy(update={"l1": 2 * weights.l1}))


class HalvedCriterion(Criterion):
    def __call__(self, outputs, targets, normalizer=None):
        losses = super().__call__(outputs, targets, normalizer)
        return replace(losses, total=losses.total / 2)


def losses_of(tmp_path, criterion):
    write_scenes(tmp_path / "data", 8, 1, 64, seed=0, workers=0)
    options = {"out": tmp_path / "run", "epochs": 1, "overrides": OVERRIDES, "device": "cpu"}
    run = sm.train(tmp_path / "data", "setmatch_n", criterion=criterion, **options)
    return [row for row in read_log(run.folder / "log.jsonl")[0] if row["kind"] == "train"]


def test_an_object_is_the_loss_and_its_terms_are_logged(tmp_path):
    rows = losses_of(tmp_path, CenterLoss())
    assert len(rows) == 2
    assert all(row["center"] == row["loss"] for row in rows)


def test_a_class_or_function_is_called_as_criterion_is(tmp_path):
    plain = losses_of(tmp_path / "a", None)[0]["loss"]
    assert losses_of(tmp_path / "b", HalvedCriterion)[0]["loss"] == pytest.approx(plain / 2)
    assert losses_of(tmp_path / "c", double_l1)[0]["loss"] > plain
