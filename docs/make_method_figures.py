"""Draw the figures of docs/explanation/method.md: what a bundled model does with a generated scene.

Needs matplotlib (extra `plots`). All numbers are computed by the code that trains:
python docs/make_method_figures.py [--scene 24]
"""

import argparse
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib import pyplot
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

import setmatch as sm
from setmatch.data.batches.transforms import preprocess
from setmatch.data.synthetic.scenes import scene
from setmatch.losses.classification import MatchedQueries
from setmatch.losses.criterion import Criterion
from setmatch.losses.matcher import match, pairwise_cost
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.layers.queries.denoising import DenoisingQueries
from setmatch.ops.boxes import cxcywh_to_xyxy, generalized_iou, intersection_over_union
from setmatch.structures.batch import Batch, Target
from setmatch.structures.outputs import PredictionGroup

IMAGES = Path(__file__).parent / "images"
SIDE_PX = 160
TRUTH, MATCHED, UNMATCHED = "#ffffff", "#1fa55b", "#d1483f"
TERMS = {"class": "#3d6fb4", "5 · L1": "#e0a030", "2 · (1 - GIoU)": "#8a5aa8"}
RIVALS = 4  # unmatched queries that are shown
WIDTH_IN, DPI = 6.6, 160


class Example:
    """A scene, its target, and what the model predicts for it in training."""

    def __init__(self, number: int) -> None:
        torch.manual_seed(0)
        self.model = sm.load("scenes_n").eval()
        painted = scene((1, number), SIDE_PX)
        self.pixels = painted.pixels
        xywh = torch.tensor(painted.xywh_px, dtype=torch.float32) / SIDE_PX
        cxcywh = torch.cat([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], dim=1)
        self.target = Target(torch.tensor(painted.classes), cxcywh)
        self.names = [self.model.card.categories.name(each) for each in painted.classes]
        pixels = torch.from_numpy(painted.pixels).permute(2, 0, 1)
        batch = Batch.from_images([preprocess(pixels, self.model.card.preprocessing)])
        self.model.training = True  # of the model alone: its layers do not learn here
        made: list[DenoisingQueries] = []
        self.model.denoising.register_forward_hook(lambda *called: made.append(called[-1]))
        with torch.no_grad():
            groups = self.model(batch, [self.target])
        self.noised: Float[Tensor, "Q 4"] = made[0].cxcywh[0]
        self.groups: dict[str, PredictionGroup] = {group.name: group for group in groups}
        recipe = sm.load_recipe("setmatch_n")
        self.costs, self.weights = recipe.matching, recipe.loss
        main = self.groups["main"].predictions
        loss = self.model.class_loss
        arguments = (main.logits, main.cxcywh, [self.target], loss, self.costs)
        self.assignments = match(*arguments)
        self.cost: Float[Tensor, "Q T"] = pairwise_cost(*arguments)[-1, 0]

    def pairs(self) -> dict[int, int]:
        """Return the object of each matched query of the last layer."""
        last = self.assignments[-1]
        return dict(zip(last.query.tolist(), last.target.tolist(), strict=True))

    def rivals(self) -> list[int]:
        """Return the unmatched queries with the lowest costs."""
        pairs = self.pairs()
        order = self.cost.amin(1).argsort().tolist()
        return [query for query in order if query not in pairs][:RIVALS]

    def loss_of(self, query: int) -> list[float]:
        """Return the weighted class, L1 and GIoU loss of one query of the last layer."""
        main = self.groups["main"].predictions
        number = self.pairs().get(query)
        normalizer = LossNormalizer.of([self.target], main.logits.shape[2])
        here = torch.zeros(0 if number is None else 1, dtype=torch.long)
        iou, l1, giou = torch.zeros(len(here)), 0.0, 0.0
        if number is not None:
            box, truth = main.cxcywh[-1, 0, [query]], self.target.cxcywh[[number]]
            corners = cxcywh_to_xyxy(box), cxcywh_to_xyxy(truth)
            iou = intersection_over_union(*corners)
            l1 = float((box - truth).abs().sum()) / len(self.target)
            giou = float(1 - generalized_iou(*corners)) / len(self.target)
        classes = here if number is None else self.target.classes[[number]]
        alone = MatchedQueries(here, here, here, classes, iou)
        logits = main.logits[-1:, :, [query]]
        class_loss = float(self.model.class_loss.loss(logits, alone, normalizer)[0])
        weights = self.weights
        return [weights.class_ * class_loss, weights.l1 * l1, weights.giou * giou]


def main() -> None:
    """Draw all figures of one scene."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", type=int, default=24)
    example = Example(parser.parse_args().scene)
    matplotlib.rcParams.update({"font.size": 11, "font.family": "DejaVu Sans"})
    save(matching(example), "method_matching")
    save(set_loss(example), "method_loss")
    save(denoising(example), "method_denoising")


def matching(example: Example) -> Any:
    """Draw objects and queries, and the cost of every pair of them."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(WIDTH_IN, 3.9), width_ratios=(1, 1.05))
    boxes = example.groups["main"].predictions.cxcywh[-1, 0]
    pairs, rivals = example.pairs(), example.rivals()
    show(left, example.pixels)
    for number, box in enumerate(example.target.cxcywh):
        outline(left, box, TRUTH, letter(number), linewidth=4)
    for query in rivals:
        outline(left, boxes[query], UNMATCHED, linestyle=":")
    for query in pairs:
        outline(left, boxes[query], MATCHED)
    left.set_title("objects and predictions")
    rows = [*sorted(pairs, key=pairs.__getitem__), *rivals]
    cost = example.cost[rows].numpy()
    right.imshow(cost, cmap="Blues_r", aspect="auto", vmin=cost.min() - 1, vmax=cost.max() + 2)
    for row, query in enumerate(rows):
        for column in range(cost.shape[1]):
            color = "white" if cost[row, column] < 0 else "black"
            text = f"{cost[row, column]:.1f}"
            right.text(column, row, text, ha="center", va="center", size=10, color=color)
        if query in pairs:
            edge = {"fill": False, "edgecolor": MATCHED, "linewidth": 3}
            right.add_patch(Rectangle((pairs[query] - 0.5, row - 0.5), 1, 1, **edge))
    right.set_xticks(range(cost.shape[1]), [letter(n) for n in range(cost.shape[1])])
    right.set_yticks(range(len(rows)), [f"query {query}" for query in rows])
    right.tick_params(length=0)
    for label, query in zip(right.get_yticklabels(), rows, strict=True):
        label.set_color(MATCHED if query in pairs else UNMATCHED)
    right.set_title("cost of each pair")
    print("objects:", ", ".join(f"{letter(n)} {name}" for n, name in enumerate(example.names)))
    print("pairs:", {query: letter(number) for query, number in pairs.items()}, "rivals:", rivals)
    return figure


def set_loss(example: Example) -> Any:
    """Draw the terms of the loss for single queries, and for each decoder layer."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(WIDTH_IN, 3.6), width_ratios=(1.25, 1))
    pairs, rivals = example.pairs(), example.rivals()
    rows = [*sorted(pairs, key=pairs.__getitem__), *rivals]
    names = [f"query {q} → {letter(pairs[q])}" if q in pairs else f"query {q} → ∅" for q in rows]
    stack(left.barh, names, np.array([example.loss_of(query) for query in rows]))
    left.invert_yaxis()
    left.set_title("loss of a query, last layer")
    criterion = Criterion(example.model.class_loss, example.costs, example.weights)
    losses = criterion([example.groups["main"]], [example.target])
    (group,), weights = losses.groups, example.weights
    layers = np.stack([(weights.of(name) * group.terms[name]) for name in ("class", "l1", "giou")])
    stack(right.bar, [str(n + 1) for n in range(layers.shape[1])], layers.T)
    right.set_title("sum, by decoder layer")
    left.legend(frameon=False, fontsize=10, loc="lower right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    print("loss by layer:", [round(float(each), 3) for each in layers.sum(0)])
    alone = sum(sum(example.loss_of(query)) for query in range(example.cost.shape[0]))
    print("last layer, summed over queries:", round(alone, 3))
    return figure


def denoising(example: Example) -> Any:
    """Draw noised boxes of the objects, and what the decoder makes of them."""
    group = example.groups["denoising"]
    known = group.assignment
    assert known is not None, "the assignment of denoising queries is known"
    first = slice(len(example.target))  # the first group of positives
    truth = example.target.cxcywh[known.target[first]]
    noised = example.noised[known.query[first]]
    restored = group.predictions.cxcywh[-1, 0, known.query[first]]
    figure, panels = pyplot.subplots(1, 2, figsize=(WIDTH_IN, 3.6))
    for axes, boxes, color, title in (
        (panels[0], noised, UNMATCHED, "noised"),
        (panels[1], restored, MATCHED, "restored"),
    ):
        show(axes, example.pixels)
        for number, box in enumerate(truth):
            outline(axes, box, TRUTH, letter(number), linewidth=4)
        for box in boxes:
            outline(axes, box, color)
        iou = intersection_over_union(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(truth)).mean()
        axes.set_title(f"{title}: mean IoU {iou:.2f}")
    return figure


def stack(bars: Any, names: list[str], values: np.ndarray) -> None:
    """Draw a stacked bar for each row of values."""
    start = np.zeros(len(names))
    for column, (term, color) in enumerate(TERMS.items()):
        offset = {"left": start} if bars.__name__ == "barh" else {"bottom": start}
        bars(names, values[:, column], color=color, label=term, **offset)
        start = start + values[:, column]


def show(axes: Any, pixels: np.ndarray) -> None:
    """Show an image without axes, a little darker, so that boxes stand out."""
    axes.imshow(pixels * 0.75 / 255, extent=(0, 1, 1, 0))
    axes.set_axis_off()


def outline(axes: Any, box: Tensor, color: str, text: str = "", **line: Any) -> None:
    """Draw a box, with a letter at its top left corner."""
    x0, y0, x1, y1 = cxcywh_to_xyxy(box).tolist()
    style = {"linewidth": 1.8, "linestyle": "-", **line}
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, **style))
    if text:
        back = {"facecolor": color, "edgecolor": "none", "pad": 1.5}
        axes.text(x0, y0, text, size=10, weight="bold", color="black", bbox=back, va="bottom")


def letter(number: int) -> str:
    """Return the name of an object in the figures."""
    return chr(ord("A") + number)


def save(figure: Any, name: str) -> None:
    """Write docs/images/NAME.png, in 128 colors."""
    file = io.BytesIO()
    figure.tight_layout()
    figure.savefig(file, dpi=DPI, facecolor="white")
    path = IMAGES / f"{name}.png"
    with Image.open(file) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
