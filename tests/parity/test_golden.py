"""DETR R50 against outputs of the published implementation, on weights made by formula."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.criterion import Criterion, Losses
from setmatch.matching import match
from setmatch.models import layouts
from setmatch.models.detector import Detector
from setmatch.models.presets import build
from setmatch.postprocess import detections
from setmatch.structures import Batch, Card, Categories, Predictions, Target

from .formula_weights import formula_images, formula_targets, formula_tensor

GOLDEN = Path(__file__).parent / "golden"


class Case:
    """A golden case, and what our model makes of it: one forward and one backward for all tests."""

    def __init__(self, name: str) -> None:
        self.facts = json.loads((GOLDEN / f"{name}.json").read_text())
        self.arrays = np.load(GOLDEN / f"{name}.npz")
        self.model = self._model()
        sizes = [tuple(size) for size in self.facts["sizes"]]
        images = formula_images(len(sizes), sizes, self.facts["seed"])
        self.batch = Batch.from_images([torch.from_numpy(image) for image in images])
        slots = min(self.facts["num_classes"], 91)
        self.targets = [
            Target(torch.from_numpy(t["labels"]), torch.from_numpy(t["boxes"]))
            for t in formula_targets(self.facts["counts"], slots, self.facts["seed"])
        ]
        self.sizes = sizes
        streams = self.model(self.batch)
        self.predictions: Predictions = streams[0].predictions
        self.losses: Losses = Criterion(self.model.scoring, MatchCosts(), LossWeights())(
            streams, self.targets
        )
        self.losses.total.backward()

    def _model(self) -> Detector:
        count = self.facts["num_classes"]
        categories = Categories(tuple(range(count)), tuple(f"c{i}" for i in range(count)))
        model = build(Card("detr_r50", {"dropout": 0.0}, categories)).eval()
        published = {
            key: torch.from_numpy(np.asarray(formula_tensor(key, tuple(shape))))
            for key, shape in self.facts["manifest"].items()
        }
        model.load_state_dict(layouts.from_layout(published, layouts.ORIGINAL), strict=True)
        return model


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("detr_resnet50")


def test_every_tensor_has_a_name_in_the_published_layout(case: Case):
    """What we write in the published layout has exactly the published keys and shapes."""
    ours = layouts.to_layout(case.model.state_dict(), layouts.ORIGINAL)
    assert {key: list(value.shape) for key, value in ours.items()} == case.facts["manifest"]


@pytest.mark.parametrize(("layer", "name"), [(-1, "pred"), (0, "aux0")])
def test_outputs_equal_the_published_ones(case: Case, layer: int, name: str):
    """Two images of different sizes in one padded batch: logits and boxes within 1e-3."""
    logits = case.predictions.logits[layer].detach().numpy()
    boxes = case.predictions.cxcywh[layer].detach().numpy()
    assert np.abs(logits - case.arrays[f"{name}_logits"]).max() < 1e-3
    assert np.abs(boxes - case.arrays[f"{name}_boxes"]).max() < 1e-3


def test_matching_equals_the_published_one(case: Case):
    """The same query answers for the same target."""
    assignment = match(
        case.predictions.logits,
        case.predictions.cxcywh,
        case.targets,
        case.model.scoring,
        MatchCosts(),
    )[-1]
    for image, first in enumerate((0, len(case.targets[0]))):
        mine = assignment.image == image
        assert assignment.query[mine].tolist() == case.arrays[f"match{image}_query"].tolist()
        target = assignment.target[mine] - first
        assert target.tolist() == case.arrays[f"match{image}_target"].tolist()


def test_losses_equal_the_published_ones(case: Case):
    """Every term of every decoder layer, and the weighted total, within 1e-4 relative."""
    expected = case.facts["losses"]
    (terms,) = case.losses.streams
    names = {"loss_ce": terms.classification, "loss_bbox": terms.l1, "loss_giou": terms.giou}
    names["cardinality_error"] = terms.cardinality_error
    for name, values in names.items():
        suffixes = [f"_{layer}" for layer in range(5)] + [""]
        published = [expected[name + suffix] for suffix in suffixes]
        assert values.detach().numpy() == pytest.approx(published, rel=1e-4), name
    assert terms.class_error.item() == pytest.approx(expected["class_error"], rel=1e-4)
    assert case.losses.total.item() == pytest.approx(case.facts["weighted_total"], rel=1e-4)


def test_gradients_equal_the_published_ones(case: Case):
    """The norm of every parameter's gradient within 1e-3 relative; frozen ones have none."""
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in case.model.named_parameters()
    }
    norms = {
        key: value.norm().item()
        for key, value in layouts.to_layout(gradients, layouts.ORIGINAL).items()
    }
    expected = case.facts["grad_norms"]
    assert {key for key, norm in norms.items() if norm > 0} <= set(expected)
    for key, norm in expected.items():
        # Of the first self-attention's weights it is zero but for rounding: all contents are zero.
        assert norms[key] == pytest.approx(norm, rel=1e-3, abs=1e-4), key


def test_detections_equal_the_published_ones(case: Case):
    """Scores, classes and boxes in pixels of an original of twice the size, all slots."""
    sizes_px = [(2 * height, 2 * width) for height, width in case.sizes]
    with torch.no_grad():
        found = detections(
            case.predictions, case.model.scoring, case.model.card.categories, sizes_px
        )
    for image, ours in enumerate(found):
        scores = case.arrays[f"det{image}_scores"]
        order = np.argsort(-scores, kind="stable")
        assert np.abs(ours.scores.numpy() - scores[order]).max() < 1e-4
        boxes = case.arrays[f"det{image}_boxes"][order]
        labels = case.arrays[f"det{image}_labels"][order]
        # Slots whose scores tie within float32's error may stand in either order.
        close = np.abs(ours.xyxy_px.numpy()[:, None] - boxes[None]).max(-1) < 0.1
        same = ours.classes.numpy()[:, None] == labels[None]
        assert (close & same).any(1).all()
