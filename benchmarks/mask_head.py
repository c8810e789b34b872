"""A step of training the mask head on a frozen detector, against the published arithmetic.

Both are given the same detector's features and the same matches, 2 images of 480×640 with 10
objects each, and make forward, mask losses and backward, in float32. The published way makes the
masks of all 100 queries, each from its own copy of what queries share; ours those of matched
queries alone. With the detector means that its forward pass, ours, is added to both. `answers`
compares the masks of all queries, without gradients, as in use.
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
from setmatch.models.layers.detr_mask_head import DETRMaskHead, all_masks
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.packed_masks import PackedMasks
from timing import publish, time_interleaved

BATCH, SIZE, OBJECTS, QUERIES, DIM, HEADS = 2, (480, 640), 10, 100, 256, 8
CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 32)


class Features:
    """What a frozen detector of the published shape gives the mask head, and what is owed."""

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
        self.owed = torch.rand(BATCH * OBJECTS, *SIZE, generator=random) < 0.2

    def channels_last(self) -> "Features":
        """Lay the levels out as our trunk does."""
        self.levels = [x.to(memory_format=torch.channels_last) for x in self.levels]
        return self


def _head() -> DETRMaskHead:
    torch.manual_seed(0)
    return DETRMaskHead(DIM, HEADS, CHANNELS[:-1])


def ours() -> Callable[[], float]:
    head = _head().to(memory_format=torch.channels_last)
    given, owed = Features().channels_last(), PackedMasks.pack(Features().owed)

    def step() -> float:
        mask_decoder = head(given.content, given.memory, given.tokens, given.levels, None)
        total = focal_and_dice(mask_decoder(given.image, given.query), owed).sum() / len(owed)
        return _learned(head, total)

    return step


def published() -> Callable[[], float]:
    head, given = _head(), Features()
    owed = given.owed.float()

    def step() -> float:
        masks = published_masks(head, given)[given.image, given.query]
        grown = F.interpolate(masks[:, None], size=SIZE, mode="bilinear").flatten(1)
        there = owed.flatten(1)
        p = grown.sigmoid()
        surprise = F.binary_cross_entropy_with_logits(grown, there, reduction="none")
        right = p * there + (1 - p) * (1 - there)
        weight = 0.25 * there + 0.75 * (1 - there)
        focal = (weight * surprise * (1 - right) ** 2).mean(1).sum()
        share = grown.sigmoid()
        dice = 1 - (2 * (share * there).sum(1) + 1) / (share.sum(1) + there.sum(1) + 1)
        return _learned(head, (focal + dice.sum()) / len(there))

    return step


def published_masks(head: DETRMaskHead, given: Features) -> Tensor:
    """Make the masks of all queries the straightforward way: a copy of the features for each."""
    size = given.levels[-1].shape[-2:]
    looks = head.attention(given.content, given.memory, None)
    looks = looks.view(*looks.shape[:-1], *size).flatten(0, 1)

    def copies(x: Tensor) -> Tensor:
        return x.unsqueeze(1).repeat(1, QUERIES, 1, 1, 1).flatten(0, 1)

    grid = given.tokens.transpose(1, 2).reshape(BATCH, DIM, *size)
    first, second, *growing = head.layers
    x = second(first(torch.cat([copies(grid), looks], 1)))
    for layer, adapter, level in zip(growing, head.adapters, given.levels[-2::-1], strict=True):
        detail = copies(adapter(level))
        x = layer(detail + F.interpolate(x, size=detail.shape[-2:], mode="nearest"))
    return head.out(x).view(BATCH, QUERIES, *x.shape[-2:])


def ours_answers() -> Callable[[], Tensor]:
    head = _head().to(memory_format=torch.channels_last)
    given = Features().channels_last()

    @torch.inference_mode()
    def answer() -> Tensor:
        mask_decoder = head(given.content, given.memory, given.tokens, given.levels, None)
        return all_masks(mask_decoder, BATCH, QUERIES, given.tokens.device)

    return answer


def published_answers() -> Callable[[], Tensor]:
    head, given = _head(), Features()

    @torch.inference_mode()
    def answer() -> Tensor:
        return published_masks(head, given)

    return answer


def detector() -> Callable[[], object]:
    names = Categories(tuple(range(250)), (None,) * 250)
    model = build(ModelCard("detr_r50", {}, names)).eval().to(memory_format=torch.channels_last)
    batch = Batch.from_images(list(torch.randn(BATCH, 3, *SIZE)))

    @torch.inference_mode()
    def answer() -> object:
        return model(batch)

    return answer


def _learned(head: DETRMaskHead, total: Tensor) -> float:
    head.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    return total.item()


STEPS = {"ours": ours, "published": published}
ANSWERS = {"ours_answers": ours_answers, "published_answers": published_answers}
CONTESTANTS: dict[str, Callable[[], Callable[[], object]]] = {**STEPS, **ANSWERS}


def _peak_mib(name: str) -> float:
    """Run once in a process of its own; return its peak resident memory."""
    command = [sys.executable, __file__, "--peak", name]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(answer.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", choices=["nothing", *CONTESTANTS])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        run = CONTESTANTS[options.peak]() if options.peak != "nothing" else Features
        run()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    # Before anything is made here: a process begins with the peak of the one that started it.
    idle = _peak_mib("nothing")
    peaks = {name: round(_peak_mib(name) - idle) for name in CONTESTANTS}
    steps = {name: make() for name, make in STEPS.items()}
    answers = {name: make() for name, make in ANSWERS.items()}
    difference = abs(steps["ours"]() - steps["published"]())
    apart = (answers["ours_answers"]() - answers["published_answers"]()).abs().max().item()
    assert max(difference, apart) < 1e-3, (difference, apart)
    results: dict[str, object] = {}
    seconds = time_interleaved({**steps, **answers, "detector": detector()}, options.rounds, 0)
    for name in ("", "_answers"):
        ours_s, theirs_s, rest_s = (
            seconds[who] for who in (f"ours{name}", f"published{name}", "detector")
        )
        what = name.strip("_") or "step"
        results[f"{what}_times_as_fast_as_published"] = round(theirs_s / ours_s, 2)
        with_detector = (theirs_s + rest_s) / (ours_s + rest_s)
        results[f"{what}_with_detector_times_as_fast"] = round(with_detector, 2)
    results["peak_mib_beyond_the_features"] = peaks
    results["largest_difference_of_losses"] = difference
    results["largest_difference_of_masks"] = apart
    publish(
        f"mask head, batch {BATCH}, {QUERIES} queries, {OBJECTS} objects", results, options.json
    )


if __name__ == "__main__":
    main()
