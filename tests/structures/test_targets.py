"""Targets are checked when they are made; a model and a criterion say what they were given."""

import dataclasses

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import setmatch as sm
from setmatch.config import LossWeights, MatchCosts
from setmatch.errors import ConfigError, DataError
from setmatch.losses.classification import Focal, Softmax
from setmatch.losses.criterion import Criterion
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.outputs import PredictionGroup, Predictions
from setmatch.structures.packed_masks import PackedMasks

NAMES = Categories((1, 2, 3), ("a", "b", "c"))
BOX = [0.5, 0.5, 0.2, 0.3]
CRITERION = Criterion(Softmax(), MatchCosts(), LossWeights())


@pytest.fixture(autouse=True)
def as_users_run_it():
    """Without the tests' own checks of types and shapes, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def target(boxes=(BOX,), classes=None) -> Target:
    indices = [0] * len(boxes) if classes is None else classes
    return Target(torch.tensor(indices, dtype=torch.int64), torch.tensor(boxes).reshape(-1, 4))


def predicted(images: int, scale: float = 1.0, classes: int = 3) -> list[PredictionGroup]:
    torch.manual_seed(0)
    boxes = (torch.rand(2, images, 5, 4) * 0.4 + 0.1) * scale
    return [PredictionGroup("main", Predictions(torch.randn(2, images, 5, classes + 1), boxes))]


@pytest.mark.filterwarnings("ignore:Target. box:UserWarning")  # random ones may reach far out
@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), max_size=5))
def test_fractions_of_the_image_are_accepted(boxes: list[list[float]]):
    made = target(boxes, list(range(len(boxes))))
    assert made.class_limit == len(boxes)
    assert made.to("cpu").class_limit == len(boxes)


@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize(
    ("box", "what"),
    [
        ([320.0, 240.0, 64.0, 48.0], r"box \d is \(320, 240, 64, 48\).*divide pixels"),
        ([3.0, 4.0, 5.0, 6.0], "divide pixels"),
        ([0.5, 0.5, 0.2, 100.0], "divide pixels"),
        ([-7.0, 0.5, 0.2, 0.2], "divide pixels"),
        ([0.5, 0.5, -0.2, 0.3], "negative side.*not corners"),
        ([0.5, float("nan"), 0.2, 0.3], "not finite"),
        ([float("inf"), 0.5, 0.2, 0.3], "not finite"),
    ],
)
def test_a_box_that_is_no_fraction_of_the_image_is_refused(box, what: str, row: int):
    boxes = [BOX] * 3
    boxes[row] = box
    with pytest.raises(DataError, match=what) as error:
        target(boxes)
    assert f"box {row}" in str(error.value)


@pytest.mark.parametrize(
    ("classes", "cxcywh", "what"),
    [
        (torch.tensor([-1]), torch.tensor([BOX]), "class index -1"),
        (torch.tensor([0.0]), torch.tensor([BOX]), "a float32 tensor of shape .1,.*int64"),
        (torch.tensor([0], dtype=torch.int32), torch.tensor([BOX]), "int32"),
        (torch.tensor([[0]]), torch.tensor([BOX]), r"shape \(1, 1\)"),
        ([0], torch.tensor([BOX]), "type list"),
        (np.array([0]), torch.tensor([BOX]), "type ndarray"),
        (torch.tensor([0, 1]), torch.tensor([BOX]), r"tensor \(2, 4\)"),
        (torch.tensor([0]), torch.tensor(BOX), r"shape \(4,\)"),
        (torch.tensor([0]), torch.tensor([[1, 1, 1, 1]]), "int64 tensor"),
        (torch.tensor([0]), [BOX], "type list"),
        (torch.tensor([0]), None, "type NoneType"),
    ],
)
def test_a_target_of_another_shape_or_type_is_refused(classes, cxcywh, what: str):
    with pytest.raises(DataError, match=what):
        Target(classes, cxcywh)


def test_masks_are_as_many_as_the_objects():
    masks = PackedMasks.pack(torch.ones(2, 8, 8, dtype=torch.bool))
    with pytest.raises(DataError, match="2 masks for 1 class"):
        dataclasses.replace(target(), masks=masks, class_limit=-1)


@pytest.mark.parametrize(
    ("targets", "what"),
    [
        (None, "type NoneType"),
        ([], "0 for 2 images"),
        ([target()], "1 for 2 images"),
        (target(), "1 for 2 images"),
        ([{"labels": [0], "boxes": [BOX]}] * 2, "type dict; give one setmatch.Target"),
        ([target(), None], "type NoneType"),
        (torch.zeros(2, 4), "float32 tensor"),
        ([target(), target(classes=[3])], "image 1: class index 3.*classes 0 to 2"),
    ],
)
def test_targets_that_do_not_fit_are_refused_by_model_and_criterion(targets, what: str):
    """The model makes queries from them in training, so it must say it first."""
    if isinstance(targets, Target):
        targets = (targets,)
    with pytest.raises(DataError, match=what):
        CRITERION(predicted(2), targets)
    shape = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 5, "decoder_layers": 1}
    model = build(ModelCard("setmatch_n", shape, NAMES)).train()
    with pytest.raises(DataError, match=what):
        model(Batch.from_images([torch.zeros(3, 64, 64)] * 2), targets)


@pytest.mark.parametrize("class_loss", [Softmax(), Focal()])
def test_the_number_of_classes_is_read_off_the_logits(class_loss):
    """With and without a logit for "no object"."""
    criterion = Criterion(class_loss, MatchCosts(), LossWeights())
    logits = class_loss.num_logits(3)
    predictions = Predictions(torch.zeros(1, 1, 5, logits), torch.rand(1, 1, 5, 4))
    groups = [PredictionGroup("main", predictions)]
    assert criterion(groups, [target(classes=[2])]).total.isfinite()
    with pytest.raises(DataError, match="class index 3"):
        criterion(groups, [target(classes=[3])])


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, 1, 5, 4),
        lambda: {"pred_logits": torch.zeros(1, 5, 4), "pred_boxes": torch.zeros(1, 5, 4)},
        lambda: (),
        lambda: predicted(1)[0],
        lambda: [predicted(1)[0].predictions],
        lambda: [PredictionGroup("main", Predictions(torch.zeros(1, 5, 4), torch.zeros(1, 5, 4)))],
        lambda: [PredictionGroup("main", Predictions(torch.zeros(1, 1, 5, 4), torch.zeros(4)))],
    ],
)
def test_what_no_model_returns_is_refused_by_the_criterion(make):
    with pytest.raises(ConfigError, match=r"setmatch\.PredictionGroup|Predictions: logits are"):
        CRITERION(make(), [target()])


def test_boxes_predicted_in_pixels_are_refused_in_a_loop_of_ones_own():
    """A training run, which passes the counts of its step, waits for no value of the device."""
    with pytest.raises(ConfigError, match=r"predicted boxes reach .*not pixels"):
        CRITERION(predicted(1, scale=640), [target()])
    counts = LossNormalizer.of([target()], 5)
    assert CRITERION(predicted(1, scale=640), [target()], counts).total.isfinite()
    nan = predicted(1, scale=float("nan"))
    assert not CRITERION(nan, [target()]).total.isfinite()


class Plain(Detector):
    """A detector of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, batch: Batch, targets=()):
        return batch.pixels.sum()


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        (torch.zeros(1, 3, 64, 64), r"float32 tensor of shape \(1, 3, 64, 64\)"),
        ([torch.zeros(3, 64, 64)], "type list"),
        (None, "type NoneType"),
    ],
)
def test_a_tensor_where_a_batch_belongs_is_refused(batch, what: str):
    with pytest.raises(ConfigError, match=rf"takes a Batch, but got .*{what}.*from_images"):
        Plain()(batch)
    assert Plain()(sm.Batch.from_images([torch.ones(3, 2, 2)])) == 12


def test_a_target_is_checked_once(monkeypatch):
    """Copies to a device, and the training step, read no value again."""
    made = target([BOX] * 3, [0, 1, 2])
    monkeypatch.setattr("setmatch.structures.batch._checked_class_limit", None)
    assert made.to("cpu").class_limit == 3
    assert CRITERION(predicted(1), [made.to("cpu")]).total.isfinite()
