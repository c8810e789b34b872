"""Matching and losses of six layers, 16 images and 330 targets, compared with the published way.

The reference is the published computation, written plainly: layer by layer, costs of all queries
and all targets of the batch, of which only an image's own are used, and the diagonal of a full GIoU
matrix in the box loss.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.classification import Softmax
from setmatch.losses.criterion import Criterion
from setmatch.losses.matcher import match
from setmatch.structures.batch import Target
from setmatch.structures.outputs import PredictionGroup, Predictions
from timing import publish, time_interleaved

LAYERS, IMAGES, QUERIES, CLASSES, TARGETS = 6, 16, 100, 91, 330


@torch.no_grad()
def reference_match(
    logits: Tensor, cxcywh: Tensor, targets: Sequence[Target]
) -> list[tuple[np.ndarray, np.ndarray]]:
    probability = logits.flatten(0, 1).softmax(-1)
    boxes = cxcywh.flatten(0, 1)
    labels = torch.cat([t.classes for t in targets])
    target_boxes = torch.cat([t.cxcywh for t in targets])
    giou = generalized_box_iou(
        box_convert(boxes, "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy")
    )
    cost = 5 * torch.cdist(boxes, target_boxes, p=1) - probability[:, labels] - 2 * giou
    cost = cost.view(len(targets), QUERIES, -1).cpu()
    parts = cost.split([len(t) for t in targets], -1)
    return [linear_sum_assignment(part[index]) for index, part in enumerate(parts)]


def reference_loss(logits: Tensor, cxcywh: Tensor, targets: Sequence[Target]) -> Tensor:
    pairs = reference_match(logits, cxcywh, targets)
    image = torch.cat([torch.full((len(q),), i) for i, (q, _) in enumerate(pairs)])
    query = torch.cat([torch.as_tensor(q) for q, _ in pairs])
    labels = torch.cat([t.classes[j] for t, (_, j) in zip(targets, pairs, strict=True)])
    target_boxes = torch.cat([t.cxcywh[j] for t, (_, j) in zip(targets, pairs, strict=True)])
    target_classes = torch.full(logits.shape[:2], CLASSES)
    target_classes[image, query] = labels
    weight = torch.ones(CLASSES + 1)
    weight[-1] = 0.1
    entropy = F.cross_entropy(logits.transpose(1, 2), target_classes, weight)
    predicted = cxcywh[image, query]
    l1 = F.l1_loss(predicted, target_boxes, reduction="none").sum() / len(target_boxes)
    giou = generalized_box_iou(
        box_convert(predicted, "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy")
    ).diag()
    with torch.no_grad():  # the published criterion logs these two
        _ = 100 - 100 * (logits[image, query].argmax(-1) == labels).float().mean()
        detected = (logits.argmax(-1) != CLASSES).sum(1)
        _ = (detected - torch.tensor([len(t) for t in targets])).abs().float().mean()
    return entropy + 5 * l1 + 2 * (1 - giou).sum() / len(target_boxes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logits = torch.randn(LAYERS, IMAGES, QUERIES, CLASSES + 1, requires_grad=True)
    raw = torch.randn(LAYERS, IMAGES, QUERIES, 4, requires_grad=True)
    counts = torch.full((IMAGES,), TARGETS // IMAGES)
    counts[: TARGETS - int(counts.sum())] += 1
    targets = [
        Target(torch.randint(0, CLASSES, (n,)), torch.rand(n, 4) * 0.4 + 0.1)
        for n in counts.tolist()
    ]
    criterion = Criterion(Softmax(), MatchCosts(), LossWeights())

    def ours() -> Tensor:
        group = PredictionGroup("main", Predictions(logits, raw.sigmoid()))
        return criterion([group], targets).total

    def published() -> Tensor:
        boxes = raw.sigmoid()
        layers = [reference_loss(logits[i], boxes[i], targets) for i in range(LAYERS)]
        return torch.stack(layers).sum()

    same = all(
        assignment.query[assignment.image == image].tolist() == query.tolist()
        for layer, assignment in enumerate(
            match(logits, raw.sigmoid(), targets, Softmax(), MatchCosts())
        )
        for image, (query, _) in enumerate(
            reference_match(logits[layer], raw[layer].sigmoid(), targets)
        )
    )
    gradient = [torch.autograd.grad(loss(), logits)[0] for loss in (ours, published)]
    seconds = time_interleaved({"ours": ours, "published": published}, options.rounds, warmup=3)
    publish(
        f"criterion: {LAYERS} layers, {IMAGES} images, {TARGETS} targets",
        {
            "times_as_fast_as_published": round(seconds["published"] / seconds["ours"], 2),
            "identical_assignments": same,
            "largest_gradient_difference": (gradient[0] - gradient[1]).abs().max().item(),
        },
        options.json,
    )


if __name__ == "__main__":
    main()
