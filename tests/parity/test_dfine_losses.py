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
from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.losses.matcher import match
from setmatch.models.layers.denoising import DenoisingQueries
from setmatch.structures.batch import Target
from setmatch.structures.outputs import PredictionGroup

from .comparison import gradient_norm, whole_images
from .random_targets import random_targets
from .small_dfine import small_dfine

COSTS = MatchCosts.model_validate({"class": 2})
LAYERS = 3
NAMES = {"class": "loss_vfl", "l1": "loss_bbox", "giou": "loss_giou"}
# Our group and layer, and the ending of transformers' names for them.
SAME = {
    ("main", LAYERS - 1): "",
    ("start", 0): "_aux_0",
    ("main", 0): "_aux_1",
    ("encoder", 0): f"_aux_{LAYERS - 1}",
    ("denoising_start", 0): "_dn_0",
    ("denoising", 0): "_dn_1",
    ("denoising", 1): "_dn_2",
}


def _same_noise(monkeypatch, noised: DenoisingQueries) -> None:
    """Give transformers our noised queries, as its own function returns them."""
    extra = noised.real.shape[1]
    assignment = noised.assignment

    def ours(targets, num_classes, num_queries, class_embed, **_):
        mask = torch.zeros(extra + num_queries, extra + num_queries)
        mask[extra:, :extra] = -torch.inf
        mask[:extra, :extra].masked_fill_(~noised.same_group, -torch.inf)
        rows = [assignment.query[assignment.image == image] for image in range(len(targets))]
        split = {"dn_positive_idx": rows, "dn_num_group": noised.groups}
        content = class_embed.weight[
            (noised.content[:, :, None] == class_embed.weight.detach()).all(-1).int().argmax(-1)
        ]
        split["dn_num_split"] = [extra, num_queries]
        return content, torch.logit(noised.cxcywh), mask, split

    monkeypatch.setattr(modeling_d_fine, "get_contrastive_denoising_training_group", ours)


def _pair(tmp_path: Path):
    reference = small_dfine()
    with torch.no_grad():  # boxes stay inside the image: transformers clamps those that do not
        for head in reference.model.decoder.bbox_embed:
            head.layers[-1].weight.mul_(0.1)
        for head in (reference.model.enc_bbox_head, reference.model.decoder.pre_bbox_head):
            head.layers[-1].weight.mul_(0.2)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    return reference.train(), model.train()


@pytest.mark.parametrize("counts", [(3, 3), (4, 1)])
def test_class_and_box_losses_and_their_gradients(counts, monkeypatch, tmp_path: Path):
    reference, model = _pair(tmp_path)
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    targets = random_targets(counts, classes=7)
    torch.manual_seed(5)
    noised = model.denoising(targets)
    _same_noise(monkeypatch, noised)
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh} for t in targets]
    theirs = reference(pixel_values=pixels, labels=labels).loss_dict

    torch.manual_seed(5)
    groups = model(whole_images(pixels), targets)
    losses = Criterion(model.class_loss, COSTS, LossWeights())(groups, targets)
    ours = {group.group: group.terms for group in losses.groups}

    weights = {"class": 1, "l1": 5, "giou": 2}
    our_sum, their_sum = torch.tensor(0.0), torch.tensor(0.0)
    for (group, layer), ending in SAME.items():
        for name, their_name in NAMES.items():
            value = weights[name] * ours[group][name][layer]
            assert value.item() == pytest.approx(theirs[their_name + ending].item(), rel=1e-4)
            our_sum, their_sum = our_sum + value, their_sum + theirs[their_name + ending]
    our_sum.backward()
    their_sum.backward()
    total = [gradient_norm(each) for each in (model, reference)]
    assert total[0] == pytest.approx(total[1], rel=1e-3)
    parts = (
        (model.backbone, reference.model.backbone),
        (
            model.encoder,
            torch.nn.ModuleList([reference.model.encoder_input_proj, reference.model.encoder]),
        ),
        (model.decoder, reference.model.decoder),
        (model.denoising, reference.model.denoising_class_embed),
    )
    for our_part, their_part in parts:
        assert gradient_norm(our_part) == pytest.approx(gradient_norm(their_part), rel=1e-3)


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
