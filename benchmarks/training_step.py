"""A training step at 2×3×480×640, compared with transformers' model on equal work: time and memory.

Equal work: forward, matching, losses of six layers, backward, clipping, AdamW. Stem and layer1 are
frozen in both (as shipped, transformers trains them by mistake). Both have dropout 0.1 where the
published model has it.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from timing import publish, time_interleaved

BOXES, SIZE, CLASSES = 10, (480, 640), 91


def ours(precision: str) -> Callable[[], object]:
    from setmatch.config import LossWeights, MatchCosts, TrainSettings
    from setmatch.losses.criterion import Criterion
    from setmatch.models.registry import build
    from setmatch.structures.batch import Batch, Target
    from setmatch.structures.metadata import Categories, ModelCard
    from setmatch.training.optim.optimizer import apply_gradients, build_optimizer

    device = _device()
    names = Categories(
        tuple(range(CLASSES)), tuple(f"c{class_index}" for class_index in range(CLASSES))
    )
    model = build(ModelCard("detr_r50", {}, names)).train()
    model = model.to(device).to(memory_format=torch.channels_last)
    criterion = Criterion(model.class_loss, MatchCosts(), LossWeights())
    optimizer = build_optimizer(model.parameter_groups(), TrainSettings())
    batch = Batch.from_images(list(_images().to(device)))
    targets = [Target(labels, boxes).to(device) for labels, boxes in _targets()]

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            groups = model(batch)
        criterion(groups, targets).total.backward()  # type: ignore[no-untyped-call]
        apply_gradients(optimizer, clip_norm=0.1)

    return step


def transformers() -> Callable[[], object]:
    from transformers import DetrConfig, DetrForObjectDetection

    device = _device()
    config = DetrConfig(
        num_labels=CLASSES,
        auxiliary_loss=True,
        attn_implementation="sdpa",
        attention_dropout=0.1,  # as published, and as ours
        activation_dropout=0.1,
    )
    model = DetrForObjectDetection(config).train().to(device)
    for name, parameter in model.named_parameters():
        if "backbone" in name and not any(f"layer{n}." in name for n in (2, 3, 4)):
            parameter.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-4)
    images = _images().to(device)
    labels = [{"class_labels": c.to(device), "boxes": b.to(device)} for c, b in _targets()]

    def step() -> None:
        model(pixel_values=images, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _images() -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def _targets() -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(1)
    size = 0.05 + 0.3 * torch.rand(2, BOXES, 2, generator=random)
    center = size / 2 + (1 - size) * torch.rand(2, BOXES, 2, generator=random)
    labels = torch.randint(1, CLASSES, (2, BOXES), generator=random)
    return list(zip(labels, torch.cat([center, size], -1), strict=True))


CONTESTANTS = {
    "float32": lambda: ours("float32"),
    "bfloat16": lambda: ours("bfloat16"),
    "transformers": transformers,
}


def _peak_mib(name: str) -> float:
    """Run two steps in a new process; return its peak resident memory."""
    command = [sys.executable, __file__, "--peak", name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def _print_peak(name: str) -> None:
    step = CONTESTANTS[name]()
    for _ in range(2):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", choices=CONTESTANTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.peak:
        _print_peak(options.peak)
        return
    peaks = {name: round(_peak_mib(name)) for name in CONTESTANTS}
    seconds = time_interleaved({name: make() for name, make in CONTESTANTS.items()}, options.rounds)
    results: dict[str, object] = {
        f"times_as_fast_as_transformers_{name}": round(seconds["transformers"] / seconds[name], 3)
        for name in ("float32", "bfloat16")
    }
    results["peak_resident_mib"] = peaks
    publish("detr_r50 training step 2x3x480x640", results, options.json)


if __name__ == "__main__":
    main()
