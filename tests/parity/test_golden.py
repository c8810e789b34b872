"""DETR R50, with masks and without, against the published code's outputs on weights by formula."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion, Losses
from setmatch.losses.matcher import match
from setmatch.models.detector import Detector
from setmatch.models.detr.key_map import ORIGINAL, ORIGINAL_PANOPTIC
from setmatch.models.registry import build
from setmatch.models.weights.layouts.key_map import from_layout, to_layout
from setmatch.postprocessing.detections import detections
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.outputs import Predictions
from setmatch.structures.packed_masks import PackedMasks
from thorough import usually

from .formula_weights import formula_images, formula_targets, formula_tensor

GOLDEN = Path(__file__).parent / "golden"


# For each case: the preset, the published layout, and whether targets have masks.
CASES = {
    "detr_resnet50": ("detr_r50", ORIGINAL, False),
    "detr_resnet50_panoptic": ("detr_r50_panoptic", ORIGINAL_PANOPTIC, True),
}


class Case:
    """A golden case, our predictions in evaluation mode and our losses in training mode."""

    def __init__(self, name: str) -> None:
        self.preset, self.layout, masks = CASES[name]
        self.facts = json.loads((GOLDEN / f"{name}.json").read_text())
        self.arrays = np.load(GOLDEN / f"{name}.npz")
        self.model = self._model()
        sizes = [tuple(size) for size in self.facts["sizes"]]
        images = formula_images(len(sizes), sizes, self.facts["seed"])
        self.batch = Batch.from_images([torch.from_numpy(image) for image in images])
        class_indices = min(self.facts["num_classes"], 91)
        self.targets = [
            Target(
                torch.from_numpy(t["labels"]),
                torch.from_numpy(t["boxes"]),
                filled(t["boxes"], size) if masks else None,
            )
            for t, size in zip(
                formula_targets(self.facts["counts"], class_indices, self.facts["seed"]),
                sizes,
                strict=True,
            )
        ]
        self.sizes = sizes
        with torch.no_grad():
            self.predictions: Predictions = self.model(self.batch)[0].predictions
            self.criterion = Criterion(self.model.class_loss, MatchCosts(), LossWeights())
            groups = self.model.train()(self.batch)
            self.losses: Losses = self.criterion(groups, self.targets)

    def _model(self) -> Detector:
        count = self.facts["num_classes"]
        categories = Categories(tuple(range(count)), tuple(f"c{i}" for i in range(count)))
        model = build(ModelCard(self.preset, {"dropout": 0.0}, categories)).eval()
        published = {
            key: torch.from_numpy(np.asarray(formula_tensor(key, tuple(shape))))
            for key, shape in self.facts["manifest"].items()
        }
        model.load_state_dict(from_layout(published, self.layout), strict=True)
        return model


def filled(cxcywh: np.ndarray, size: tuple[int, int]) -> PackedMasks:
    """The masks of the golden targets: their boxes, last row and column included."""
    masks = torch.zeros(len(cxcywh), *size, dtype=torch.bool)
    for mask, (x, y, w, h) in zip(masks, cxcywh, strict=True):
        rows = slice(int((y - h / 2) * size[0]), int((y + h / 2) * size[0]) + 1)
        mask[rows, int((x - w / 2) * size[1]) : int((x + w / 2) * size[1]) + 1] = True
    return PackedMasks.pack(masks)


@pytest.fixture(scope="module", params=usually(CASES, "detr_resnet50"))
def case(request) -> Case:
    return Case(request.param)


def test_tensor_names_and_shapes_equal_the_published_ones(case: Case):
    ours = to_layout(case.model.state_dict(), case.layout)
    assert {key: list(value.shape) for key, value in ours.items()} == case.facts["manifest"]


@pytest.mark.parametrize(("layer", "name"), [(-1, "pred"), (0, "aux0")])
def test_outputs_equal_the_published_ones(case: Case, layer: int, name: str):
    """Two images of different sizes in one padded batch: logits and boxes within 1e-3."""
    logits = case.predictions.logits[layer].detach().numpy()
    boxes = case.predictions.cxcywh[layer].detach().numpy()
    assert np.abs(logits - case.arrays[f"{name}_logits"]).max() < 1e-3
    assert np.abs(boxes - case.arrays[f"{name}_boxes"]).max() < 1e-3


def test_masks_equal_the_published_ones(case: Case):
    """At stride 4, within 2e-3; there are none without a mask head."""
    masks = case.predictions.masks
    assert (masks is None) == ("pred_masks" not in case.arrays)
    if masks is not None:
        chosen = masks[:, case.arrays["mask_queries"]].numpy()
        assert np.abs(chosen - case.arrays["pred_masks"]).max() < 2e-3


def test_matching_equals_the_published_one(case: Case):
    assignment = match(
        case.predictions.logits,
        case.predictions.cxcywh,
        case.targets,
        case.model.class_loss,
        MatchCosts(),
    )[-1]
    first = 0
    for image, targets in enumerate(case.targets):
        mine = assignment.image == image
        assert assignment.query[mine].tolist() == case.arrays[f"match{image}_query"].tolist()
        target = assignment.target[mine] - first
        assert target.tolist() == case.arrays[f"match{image}_target"].tolist()
        first += len(targets)


def test_losses_equal_the_published_ones(case: Case):
    """Every term of every decoder layer, and the weighted total, within 1e-4 relative."""
    expected = case.facts["losses"]
    (group,) = case.losses.groups
    terms = group.terms
    names = {"loss_ce": terms["class"], "loss_bbox": terms["l1"], "loss_giou": terms["giou"]}
    names["cardinality_error"] = terms["cardinality_error"]
    for name, values in names.items():
        suffixes = [f"_{layer}" for layer in range(5)] + [""]
        published = [expected[name + suffix] for suffix in suffixes]
        assert values.detach().numpy() == pytest.approx(published, rel=1e-4), name
    for name in {"mask", "dice"} & terms.keys():
        assert terms[name].item() == pytest.approx(expected[f"loss_{name}"], rel=1e-4)
    assert ("mask" in terms) == ("loss_mask" in expected)
    assert terms["class_error"].item() == pytest.approx(expected["class_error"], rel=1e-4)
    assert case.losses.total.item() == pytest.approx(case.facts["weighted_total"], rel=1e-4)


def test_gradients_equal_the_published_ones(case: Case):
    """The norm of every parameter's gradient within 1e-3 relative; frozen ones have none.

    In float64: in float32 those of the panoptic case vary by up to 1.7e-3 between machines, in the
    published code as well.
    """
    model = case.model.double().train()
    batch = replace(case.batch, pixels=case.batch.pixels.double())
    case.criterion(model(batch), case.targets).total.backward()
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    model.float().zero_grad()
    norms = {key: value.norm().item() for key, value in to_layout(gradients, case.layout).items()}
    expected = case.facts["grad_norms"]
    assert {key for key, norm in norms.items() if norm > 0} <= set(expected)
    for key, norm in expected.items():
        # The first self-attention's is zero up to rounding: all contents are zero.
        assert norms[key] == pytest.approx(norm, rel=1e-3, abs=1e-4), key


def test_detections_equal_the_published_ones(case: Case):
    """Scores, classes and boxes of all queries, in an original of twice the size."""
    sizes_px = [(2 * height, 2 * width) for height, width in case.sizes]
    with torch.no_grad():
        results = detections(
            case.predictions, case.model.class_loss, case.model.card.categories, sizes_px
        )
    for image, ours in enumerate(results):
        scores = case.arrays[f"det{image}_scores"]
        order = np.argsort(-scores, kind="stable")
        assert np.abs(ours.scores.numpy() - scores[order]).max() < 1e-4
        boxes = case.arrays[f"det{image}_boxes"][order]
        labels = case.arrays[f"det{image}_labels"][order]
        # Detections with equal scores up to float32's rounding may be in either order.
        close = np.abs(ours.xyxy_px.numpy()[:, None] - boxes[None]).max(-1) < 0.1
        same = ours.classes.numpy()[:, None] == labels[None]
        assert (close & same).any(1).all()
