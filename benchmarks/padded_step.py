"""What padding costs: a training step and a forward pass, padded and not, on the same canvas.

    python benchmarks/padded_step.py --json FILE

The batch has eight images of 128 px. In the padded one, half of them are two thirds as wide, half
two thirds as high. Contestants take turns, so other programs on the machine affect all alike.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from timing import publish, time_interleaved

PRESETS = ("setmatch_n", "detr_r18_tiny")
SIDE, SHORT = 128, 86
SIZES = {"full": [(SIDE, SIDE)] * 8, "padded": [(SIDE, SHORT), (SHORT, SIDE)] * 4}


def batch_of(sizes: list[tuple[int, int]]) -> Batch:
    """Return a batch whose canvas is always SIDE × SIDE."""
    images = [torch.randn(3, *size) for size in sizes]
    return Batch.from_images(images)


def contestants(preset: str) -> dict[str, Callable[[], object]]:
    """Return a training step and a forward pass, padded and not."""
    torch.manual_seed(0)
    model = build(ModelCard(preset, {}, Categories((0, 1), ("a", "b"))))
    model = model.to(memory_format=torch.channels_last)
    criterion = Criterion(model.class_loss, MatchCosts(), LossWeights())
    boxes = torch.tensor([[0.4, 0.4, 0.3, 0.5], [0.7, 0.6, 0.2, 0.2]])
    targets = [Target(torch.tensor([0, 1]), boxes)] * 8
    runs: dict[str, Callable[[], object]] = {}
    for name, sizes in SIZES.items():
        batch = batch_of(sizes)

        def step(batch: Batch = batch) -> None:
            model.train()
            criterion(model(batch, targets), targets).total.backward()  # type: ignore[no-untyped-call]
            model.zero_grad()

        @torch.inference_mode()
        def forward(batch: Batch = batch) -> None:
            model.eval()
            model(batch)

        runs |= {f"{preset} step {name}": step, f"{preset} forward {name}": forward}
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratios: dict[str, object] = {}
    for preset in PRESETS:
        seconds = time_interleaved(contestants(preset), options.rounds)
        for kind in ("step", "forward"):
            full, padded = (seconds[f"{preset} {kind} {name}"] for name in ("full", "padded"))
            ratios[f"{preset} {kind}"] = {
                "full_ms": round(1000 * full, 1),
                "padded_ms": round(1000 * padded, 1),
                "times_as_long_padded": round(padded / full, 3),
            }
    publish("padded and full batches of eight images, 128 px", ratios, options.json)


if __name__ == "__main__":
    main()
