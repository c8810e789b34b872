"""A training step of the mask head on a frozen detector, compared with the published computation.

Both get the same features and matches of 2 images of 480×640 with 10 objects each, and compute
forward, mask losses and backward in float32. The published way computes the masks of all 100
queries, each from its own copy of the shared features; ours computes those of matched queries only.
"With the detector" adds our detector's forward pass to both. `inference` compares the masks of all
queries without gradients, as in inference.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from setmatch.losses.masks import focal_and_dice
from setmatch.models.layers.heads.detr_mask_head import DETRMaskHead, all_masks
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.packed_masks import PackedMasks
from timing import publish, time_interleaved

BATCH, SIZE, OBJECTS, QUERIES, DIM, HEADS = 2, (480, 640), 10, 100, 256, 8
CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 32)


class Features:
    """The inputs of the mask head from a detector of the published shape, and target masks."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        sizes = [(SIZE[0] // stride, SIZE[1] // stride) for stride in STRIDES]
        self.levels = [
            torch.randn(BATCH, channels, *size, generator=random).relu()
            for channels, size in zip(CHANNELS, sizes, strict=True)
        ]
        cells = sizes[-1][0] * sizes[-1][1]
        self.tokens = torch.randn(BATCH, cells, DIM, generator=random)
        self.memory = torch.randn(BATCH, cells, DIM, generator=random)
        self.content = torch.randn(BATCH, QUERIES, DIM, generator=random)
        self.image = torch.arange(BATCH).repeat_interleave(OBJECTS)
        self.query = torch.arange(OBJECTS).repeat(BATCH) * 7
        self.targets = torch.rand(BATCH * OBJECTS, *SIZE, generator=random) < 0.2

    def channels_last(self) -> "Features":
        """Convert the levels to channels_last, as our backbone's output."""
        self.levels = [x.to(memory_format=torch.channels_last) for x in self.levels]
        return self


def _head() -> DETRMaskHead:
    torch.manual_seed(0)
    return DETRMaskHead(DIM, HEADS, CHANNELS[:-1])


def ours() -> Callable[[], float]:
    head = _head().to(memory_format=torch.channels_last)
    features, targets = Features().channels_last(), PackedMasks.pack(Features().targets)

    def step() -> float:
        mask_decoder = head(
            features.content, features.memory, features.tokens, features.levels, None
        )
        total = focal_and_dice(mask_decoder(features.image, features.query), targets).sum() / len(
            targets
        )
        return _learned(head, total)

    return step


def published() -> Callable[[], float]:
    head, features = _head(), Features()
    targets = features.targets.float()

    def step() -> float:
        masks = published_masks(head, features)[features.image, features.query]
        resized = F.interpolate(masks[:, None], size=SIZE, mode="bilinear").flatten(1)
        target = targets.flatten(1)
        p = resized.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(resized, target, reduction="none")
        right = p * target + (1 - p) * (1 - target)
        weight = 0.25 * target + 0.75 * (1 - target)
        focal = (weight * entropy * (1 - right) ** 2).mean(1).sum()
        share = resized.sigmoid()
        dice = 1 - (2 * (share * target).sum(1) + 1) / (share.sum(1) + target.sum(1) + 1)
        return _learned(head, (focal + dice.sum()) / len(target))

    return step


def published_masks(head: DETRMaskHead, features: Features) -> Tensor:
    """Compute the masks of all queries plainly: with a copy of the features for each."""
    size = features.levels[-1].shape[-2:]
    attention = head.attention(features.content, features.memory, None)
    attention = attention.view(*attention.shape[:-1], *size).flatten(0, 1)

    def copies(x: Tensor) -> Tensor:
        return x.unsqueeze(1).repeat(1, QUERIES, 1, 1, 1).flatten(0, 1)

    grid = features.tokens.transpose(1, 2).reshape(BATCH, DIM, *size)
    first, second, *growing = head.layers
    x = second(first(torch.cat([copies(grid), attention], 1)))
    for layer, adapter, level in zip(growing, head.adapters, features.levels[-2::-1], strict=True):
        detail = copies(adapter(level))
        x = layer(detail + F.interpolate(x, size=detail.shape[-2:], mode="nearest"))
    return head.out(x).view(BATCH, QUERIES, *x.shape[-2:])


def ours_inference() -> Callable[[], Tensor]:
    head = _head().to(memory_format=torch.channels_last)
    features = Features().channels_last()

    @torch.inference_mode()
    def infer() -> Tensor:
        mask_decoder = head(
            features.content, features.memory, features.tokens, features.levels, None
        )
        return all_masks(mask_decoder, BATCH, QUERIES, features.tokens.device)

    return infer


def published_inference() -> Callable[[], Tensor]:
    head, features = _head(), Features()

    @torch.inference_mode()
    def infer() -> Tensor:
        return published_masks(head, features)

    return infer


def detector() -> Callable[[], object]:
    names = Categories(tuple(range(250)), (None,) * 250)
    model = build(ModelCard("detr_r50", {}, names)).eval().to(memory_format=torch.channels_last)
    batch = Batch.from_images(list(torch.randn(BATCH, 3, *SIZE)))

    @torch.inference_mode()
    def infer() -> object:
        return model(batch)

    return infer


def _learned(head: DETRMaskHead, total: Tensor) -> float:
    head.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    return total.item()


STEPS = {"ours": ours, "published": published}
INFERENCE = {"ours_inference": ours_inference, "published_inference": published_inference}
CANDIDATES: dict[str, Callable[[], Callable[[], object]]] = {**STEPS, **INFERENCE}


def _peak_mib(name: str) -> float:
    """Run once in a new process; return its peak resident memory."""
    command = [sys.executable, __file__, "--peak", name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", choices=["nothing", *CANDIDATES])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        run = CANDIDATES[options.peak]() if options.peak != "nothing" else Features
        run()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    # Before anything is made here: a process begins with the peak of the one that started it.
    idle = _peak_mib("nothing")
    peaks = {name: round(_peak_mib(name) - idle) for name in CANDIDATES}
    steps = {name: make() for name, make in STEPS.items()}
    inference = {name: make() for name, make in INFERENCE.items()}
    difference = abs(steps["ours"]() - steps["published"]())
    mask_difference = (
        (inference["ours_inference"]() - inference["published_inference"]()).abs().max().item()
    )
    assert max(difference, mask_difference) < 1e-3, (difference, mask_difference)
    results: dict[str, object] = {}
    seconds = time_interleaved({**steps, **inference, "detector": detector()}, options.rounds, 0)
    for name in ("", "_inference"):
        ours_s, theirs_s, rest_s = (
            seconds[who] for who in (f"ours{name}", f"published{name}", "detector")
        )
        what = name.strip("_") or "step"
        results[f"{what}_times_as_fast_as_published"] = round(theirs_s / ours_s, 2)
        with_detector = (theirs_s + rest_s) / (ours_s + rest_s)
        results[f"{what}_with_detector_times_as_fast"] = round(with_detector, 2)
    results["peak_mib_beyond_the_features"] = peaks
    results["largest_difference_of_losses"] = difference
    results["largest_difference_of_masks"] = mask_difference
    publish(
        f"mask head, batch {BATCH}, {QUERIES} queries, {OBJECTS} objects", results, options.json
    )


if __name__ == "__main__":
    main()
