"""A training step of a model, compared with transformers' model of the same weights: time, memory.

Equal work: forward, matching of all layers, denoising, all losses, backward, clipping, AdamW. One
thread; the seconds are those of the processor, so that other programs do not count. The memory is
the most that a new process has of its own after two steps.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from published_inference import both, both_lwdetr_t, both_rfdetr_n
from setmatch.config import LossWeights, MatchCosts, TrainSettings
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch, Target
from setmatch.training.optim.optimizer import apply_gradients, build_optimizer
from timing import publish, time_interleaved

CLASSES, BOXES = 80, 10
MODELS: dict[str, Callable[[], tuple[Detector, Any]]] = {
    "dfine_s": partial(both, "dfine_s"),
    "lwdetr_t": both_lwdetr_t,
    "rfdetr_n": both_rfdetr_n,
}
COSTS = MatchCosts.model_validate({"class": 2})


def ours(name: str, images: Tensor, targets: list[tuple[Tensor, Tensor]]) -> Callable[[], object]:
    model, _ = MODELS[name]()
    model.train()
    criterion = Criterion(model.class_loss, COSTS, LossWeights())
    optimizer = build_optimizer(
        model.parameter_groups(), TrainSettings(), model.rate_factors(), model.undecayed()
    )
    batch = Batch.from_images(list(images))
    labels = [Target(*each) for each in targets]

    def step() -> None:
        criterion(model(batch, labels), labels).total.backward()  # type: ignore[no-untyped-call]
        apply_gradients(optimizer, clip_norm=0.1)

    return step


def transformers(
    name: str, images: Tensor, targets: list[tuple[Tensor, Tensor]]
) -> Callable[[], object]:
    _, model = MODELS[name]()
    model.train()
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-4)
    labels = [{"class_labels": classes, "boxes": boxes} for classes, boxes in targets]

    def step() -> None:
        model(pixel_values=images, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        optimizer.step()
        optimizer.zero_grad()

    return step


CONTESTANTS = {"setmatch": ours, "transformers": transformers}


def data(batch: int, side: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Return images, and the classes and boxes of `BOXES` objects in each."""
    random = torch.Generator().manual_seed(1)
    size = 0.05 + 0.3 * torch.rand(batch, BOXES, 2, generator=random)
    center = size / 2 + (1 - size) * torch.rand(batch, BOXES, 2, generator=random)
    classes = torch.randint(CLASSES, (batch, BOXES), generator=random)
    boxes = torch.cat([center, size], -1)
    images = torch.rand(batch, 3, side, side, generator=random)
    return images, list(zip(classes, boxes, strict=True))


def _peak_mib(name: str, options: argparse.Namespace) -> int:
    sizes = [f"--batch={options.batch}", f"--side={options.side}"]
    command = [sys.executable, __file__, f"--model={options.model}", "--peak", name, *sizes]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return round(json.loads(output.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="dfine_s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--peak", choices=CONTESTANTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, targets = data(options.batch, options.side)
    if options.peak:
        step = CONTESTANTS[options.peak](options.model, images, targets)
        for _ in range(2):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    peaks = {name: _peak_mib(name, options) for name in CONTESTANTS}
    steps = {name: make(options.model, images, targets) for name, make in CONTESTANTS.items()}
    seconds = time_interleaved(steps, options.rounds, clock=time.process_time)
    ratio = seconds["transformers"] / seconds["setmatch"]
    results = {"times_as_fast_as_transformers": round(ratio, 3), "peak_resident_mib": peaks}
    publish(
        f"{options.model} training step {options.batch}x3x{options.side}x{options.side}",
        results,
        options.json,
    )


if __name__ == "__main__":
    main()
