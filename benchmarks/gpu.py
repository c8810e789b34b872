"""The setmatch family on a GPU: images per second in inference and training, and cost of matching.

A training step is the library's: forward, matching, losses, backward, clipping, optimizer and
moving average, in bfloat16, on 640×640 images with ten objects that are on the GPU already. It is
timed in three ways: as it is, with the matching costs copied while other losses are computed; with
matching before everything else; and with known assignments, the upper bound for any matching.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from family import SIDE_PX, inference, targets_of
from setmatch.config import LossWeights, MatchCosts, TrainSettings
from setmatch.data.batches.loader import Minibatch
from setmatch.distributed import Distributed
from setmatch.losses.criterion import Criterion, Losses
from setmatch.losses.matcher import match
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.outputs import Assignment, PredictionGroup
from setmatch.training.optim.batch_norm_stats import BatchNormStats
from setmatch.training.optim.ema import EMA
from setmatch.training.optim.optimizer import build_optimizer
from setmatch.training.step import TrainStep
from timing import publish, time_interleaved

MODELS = ("setmatch_n", "setmatch_s", "setmatch_m", "detr_r50")
CLASSES = 80


@dataclass(frozen=True)
class Known(Criterion):
    """A criterion without matching: the first queries are assigned to the targets."""

    def __call__(
        self,
        groups: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer | None = None,
    ) -> Losses:
        """Return the losses of the known assignments."""
        known = _in_order(tuple(len(target) for target in targets))
        assigned = [
            group if group.assignment else replace(group, assignment=known) for group in groups
        ]
        return super().__call__(assigned, targets, normalizer)


@dataclass(frozen=True)
class Waiting(Known):
    """Matches every group first, and discards the result."""

    def __call__(
        self,
        groups: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer | None = None,
    ) -> Losses:
        """Return the losses of the known assignments, after matching."""
        for group in groups:
            if group.assignment is None:
                logits, cxcywh = self._trained_layers(group.predictions)
                match(logits, cxcywh, targets, self.class_loss, self.costs)
        return super().__call__(groups, targets, normalizer)


WAYS = {"as it is": Criterion, "waiting for matching": Waiting, "no matching": Known}
_ORDERS: dict[tuple[int, ...], Assignment] = {}


def _in_order(counts: tuple[int, ...]) -> Assignment:
    if counts not in _ORDERS:
        sizes = torch.tensor(counts)
        _ORDERS[counts] = Assignment(
            torch.arange(len(counts)).repeat_interleave(sizes).cuda(),
            torch.cat([torch.arange(count) for count in counts]).cuda(),
            torch.arange(sum(counts)).cuda(),
        )
    return _ORDERS[counts]


def training(model: Detector, window: list[Minibatch], way: type[Criterion]) -> Callable[[], None]:
    """Return a step on `window`, of micro-batches that are on the GPU."""
    model.train()
    runtime = Distributed(torch.device("cuda"))
    criterion = way(model.class_loss, MatchCosts(), LossWeights())
    train_step = TrainStep(
        runtime,
        model,
        model,
        criterion,
        criterion,
        build_optimizer(model.parameter_groups(), TrainSettings(muon_lr=1e-4)),
        BatchNormStats(model, runtime),
        EMA(model, 0.998),
        torch.bfloat16,
        0.1,
    )
    targets = [target for each in window for target in each.targets]
    normalizer = LossNormalizer.of(targets, model.num_queries)
    seeds = list(range(len(window)))

    def step() -> None:
        train_step.step(window, normalizer, seeds)

    return step


def syncs(step: Callable[[], object]) -> int:
    """Return how often the host waits for the GPU in a step, as torch counts; events are none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return len([each for each in caught if "synchroniz" in str(each.message)])


def minibatches(images: int, parts: int) -> list[Minibatch]:
    """Return `parts` micro-batches of `images` in all, on the GPU."""
    share = images // parts
    results = []
    for _ in range(parts):
        batch = Batch.from_images(list(torch.randn(share, 3, SIDE_PX, SIDE_PX)))
        results.append(Minibatch(batch, tuple(targets_of(share)), tuple(range(share))).to("cuda"))
    return results


def measured(name: str, rounds: int, images: int) -> dict[str, object]:
    """Return the throughputs of one model."""
    names = Categories(
        tuple(range(CLASSES)), tuple(f"c{class_index}" for class_index in range(CLASSES))
    )
    model = build(ModelCard(name, {}, names)).to(memory_format=torch.channels_last).cuda().eval()
    results: dict[str, object] = {}
    for count in (1, images):
        batch = Batch.from_images(list(torch.randn(count, 3, SIDE_PX, SIDE_PX))).to("cuda")
        infer = inference(model, batch)

        def ask_in_half(infer: Callable[[], object] = infer) -> None:
            with torch.autocast("cuda", torch.bfloat16):
                infer()

        ways = {"float32": infer, "bfloat16": ask_in_half}
        for way, seconds in time_interleaved(ways, rounds, warmup=3).items():
            results[f"inference, batch size {count}, {way}: images/s"] = round(count / seconds, 1)
    for parts in (1, 2):
        window = minibatches(images, parts)
        ways = {way: training(model, window, criterion) for way, criterion in WAYS.items()}
        for way, seconds in time_interleaved(ways, rounds, warmup=3).items():
            results[f"training, {parts} micro-batch(es), {way}: images/s"] = round(
                images / seconds, 1
            )
        results[f"training, {parts} micro-batch(es): synchronizations a step"] = syncs(
            ways["as it is"]
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=16, help="of a step, and of a large batch")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    results: dict[str, object] = {}
    for name in options.models:
        results[name] = measured(name, options.rounds, options.images)
        print(name, results[name], flush=True)
    title = f"the family on a GPU at {SIDE_PX}x{SIDE_PX}, steps of {options.images} images"
    publish(title, results, options.json)


if __name__ == "__main__":
    main()
