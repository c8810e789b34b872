"""Losses and gradients of D-FINE against transformers' on the same denoising noise.

transformers pairs the distributions of each decoder layer with the boxes of the layer before, and
never trains the boxes of the last but one. Its losses of distributions are therefore compared layer
by layer, as its function computes them; those of classes and boxes where both train the same.
"""

from pathlib import Path

import pytest
import torch
from transformers.loss.loss_d_fine import DFineLoss
from transformers.models.d_fine import modeling_d_fine

import setmatch
from setmatch.config import LossWeights
from setmatch.losses.criterion import Criterion
from setmatch.losses.matcher import match
from setmatch.structures.batch import Target
from setmatch.structures.outputs import PredictionGroup

from .comparison import whole_images
from .distribution_losses import COSTS, assert_class_and_box_losses_agree, keep_boxes_inside
from .random_targets import random_targets
from .small_dfine import small_dfine


def _pair(tmp_path: Path):
    reference = small_dfine()
    keep_boxes_inside(reference)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    return reference.train(), model.train()


@pytest.mark.parametrize("counts", [(3, 3), (4, 1)])
def test_class_and_box_losses_and_their_gradients(counts, monkeypatch, tmp_path: Path):
    reference, model = _pair(tmp_path)
    inner = reference.model
    encoder = torch.nn.ModuleList([inner.encoder_input_proj, inner.encoder])
    parts = (
        (model.backbone, inner.backbone),
        (model.encoder, encoder),
        (model.decoder, inner.decoder),
        (model.denoising, inner.denoising_class_embed),
    )
    assert_class_and_box_losses_agree(
        model, reference, counts, "loss_vfl", modeling_d_fine, parts, monkeypatch
    )


@pytest.mark.parametrize("counts", [(3, 3), (4, 0), (0, 0)])
def test_losses_of_distributions(counts: tuple[int, ...], tmp_path: Path):
    """Each layer's with its own boxes and matches, as the authors pair them."""
    reference, model = _pair(tmp_path)
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    targets = random_targets(counts, classes=7)
    groups = model(whole_images(pixels), targets)
    criterion = Criterion(model.class_loss, COSTS, LossWeights())
    terms = {group.group: group.terms for group in criterion(groups, targets).groups}
    main = groups[0]
    assert "edges" not in terms["start"]
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh} for t in targets]
    for layer, expected in enumerate(_local_losses(reference, main, targets, labels)):
        assert terms["main"]["edges"][layer].item() == pytest.approx(expected["loss_fgl"], rel=1e-4)
        distilled = terms["main"]["distillation"][layer].item()
        assert distilled == pytest.approx(expected["loss_ddf"], rel=1e-4, abs=1e-7)


def _local_losses(
    reference, main: PredictionGroup, targets: list[Target], labels
) -> list[dict[str, float]]:
    """transformers' loss_local of every layer, on the predictions of a group of ours."""
    loss = DFineLoss(reference.config)
    logits, boxes = main.predictions.logits.float(), main.predictions.cxcywh.float()
    assignments = match(logits, boxes, targets, setmatch.losses.Varifocal(), COSTS)
    starts = [0, len(targets[0])]
    values = []
    for layer, assignment in enumerate(assignments):
        indices = [
            (assignment.query[chosen], assignment.target[chosen] - starts[image])
            for image in range(2)
            for chosen in [assignment.image == image]
        ]
        outputs = {
            "pred_boxes": boxes[layer],
            "pred_corners": main.edges.logits[layer].flatten(2).float(),
            "ref_points": main.edges.start_cxcywh.float(),
            "teacher_corners": main.edges.logits[-1].flatten(2).float(),
            "teacher_logits": logits[-1],
        }
        count = max(sum(len(target) for target in targets), 1)
        found = loss.loss_local(outputs, labels, indices, count)
        values.append({name: float(value) for name, value in found.items()})
    return values
