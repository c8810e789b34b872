"""The setmatch family compared with detr_r50 at 640×640: size, GMACs, latency and training.

Times are ratios within one run, with the models in turns, so that other load affects all equally. A
training step is forward, matching, losses, backward, clipping, optimizer and moving average, on
random images with ten objects each. `setmatch_timm` uses resnet10t. Models with masks compute the
masks of all queries; their training is not timed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from setmatch.config import LossWeights, MatchCosts, TrainSettings
from setmatch.evaluation.compare.profiling import count_macs
from setmatch.inference.engines.eager import evaluation_copy
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.training.optim.ema import EMA
from setmatch.training.optim.optimizer import apply_gradients, build_optimizer
from timing import publish, time_interleaved

PEER = "detr_r50"
BACKBONES = {"setmatch_timm": {"backbone": "resnet10t"}}
FAMILY = ("setmatch_n", "setmatch_s", "setmatch_m", *BACKBONES)
WITH_MASKS = ("setmatch_n_panoptic", "setmatch_s_panoptic", "setmatch_m_panoptic")
SIDE_PX, BOXES, CLASSES, IMAGES = 640, 10, 80, 2


def inference(model: Detector, batch: Batch) -> Callable[[], object]:
    ready = evaluation_copy(model)

    @torch.inference_mode()
    def infer() -> None:
        ready(batch)

    return infer


def training(model: Detector, batch: Batch, targets: list[Target]) -> Callable[[], object]:
    model.train()
    criterion = Criterion(model.class_loss, MatchCosts(), LossWeights())
    optimizer = build_optimizer(model.parameter_groups(), TrainSettings(muon_lr=1e-4))
    average = EMA(model, decay=0.998)

    def step() -> None:
        criterion(model(batch, targets), targets).total.backward()  # type: ignore[no-untyped-call]
        _, finite = apply_gradients(optimizer, clip_norm=0.1)
        average.update(finite)

    return step


def targets_of(images: int) -> list[Target]:
    random = torch.Generator().manual_seed(1)
    size = 0.05 + 0.3 * torch.rand(images, BOXES, 2, generator=random)
    center = size / 2 + (1 - size) * torch.rand(images, BOXES, 2, generator=random)
    class_indices = torch.randint(0, CLASSES, (images, BOXES), generator=random)
    boxes = torch.cat([center, size], -1)
    return [Target(*pair) for pair in zip(class_indices, boxes, strict=True)]


def speedup(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    seconds = time_interleaved(candidates, rounds)
    return {name: round(seconds[PEER] / taken, 2) for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=[1, 2], nargs="+")
    parser.add_argument("--beside", default="nothing", help="other load on the machine")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    names = Categories(
        tuple(range(CLASSES)), tuple(f"c{class_index}" for class_index in range(CLASSES))
    )
    models = {
        name: build(ModelCard(name, BACKBONES.get(name, {}), names)).to(
            memory_format=torch.channels_last
        )
        for name in (PEER, *FAMILY, *WITH_MASKS)
    }
    images = torch.randn(IMAGES, 3, SIDE_PX, SIDE_PX)
    one, some = Batch.from_images([images[0]]), Batch.from_images(list(images))
    targets = targets_of(IMAGES)
    results: dict[str, object] = {
        "parameters": {n: sum(p.numel() for p in m.parameters()) for n, m in models.items()}
    }
    gmacs = {name: count_macs(model.eval(), one) / 1e9 for name, model in models.items()}
    results["gmacs"] = {name: round(count, 2) for name, count in gmacs.items()}
    for threads in options.threads:
        torch.set_num_threads(threads)
        inferring = {name: inference(model, one) for name, model in models.items()}
        results[f"inference_times_as_fast_{threads}_threads"] = speedup(inferring, options.rounds)
    steps = {name: training(models[name], some, targets) for name in (PEER, *FAMILY)}
    for threads in options.threads:
        torch.set_num_threads(threads)
        ratios = speedup(steps, max(options.rounds // 2, 1))
        results[f"training_times_as_fast_{threads}_threads"] = ratios
    torch.set_num_threads(1)
    results["beside"] = options.beside
    publish(f"the family against {PEER} at {SIDE_PX}x{SIDE_PX}", results, options.json)


if __name__ == "__main__":
    main()
