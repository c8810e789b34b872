"""Panoptic merge of 100 queries, 800×1066 to 480×640, compared with the published computation.

The reference is that computation, written plainly: every kept mask resized to the input size, a
softmax over masks, Pillow, and a pass over the image for each area, until no mask is dropped. The
masks are smooth random fields, so each has some of the image.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from setmatch.losses.classification import Softmax
from setmatch.postprocessing.panoptic_merge import panoptic_segments
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions
from timing import publish, time_interleaved

QUERIES, CLASSES, THINGS = 100, 250, 91
SEEN_PX, SIZE_PX = (800, 1066), (480, 640)
CATEGORIES = Categories(tuple(range(CLASSES)), (None,) * CLASSES, frozenset(range(THINGS, CLASSES)))


def generate(kept: int, seed: int = 0) -> Predictions:
    """Return predictions with `kept` confident queries, each of another class."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(QUERIES, 1, 10, 13, generator=generator)
    masks = 3 * F.interpolate(coarse, size=(200, 267), mode="bicubic")[:, 0]
    logits = torch.full((QUERIES, CLASSES + 1), -5.0)
    logits[kept:, CLASSES] = 5
    class_indices = torch.randperm(CLASSES, generator=generator)[:kept]
    logits[torch.arange(kept), class_indices] = 10
    return Predictions(
        logits[None, None], torch.rand(1, 1, QUERIES, 4, generator=generator), masks[None]
    )


@torch.no_grad()
def published(predictions: Predictions) -> tuple[np.ndarray, list[int]]:
    assert predictions.masks is not None, "generated with masks"
    logits, masks = predictions.logits[-1, 0], predictions.masks[0]
    scores, likeliest = logits.softmax(-1).max(-1)
    keep = (likeliest != CLASSES) & (scores > 0.85)
    class_indices = likeliest[keep].tolist()
    large = F.interpolate(masks[keep][:, None], size=SEEN_PX, mode="bilinear").flatten(1)
    number, areas = numbered(large, class_indices, merge=True)
    while min(areas, default=5) <= 4:
        left = [place for place, area in enumerate(areas) if area > 4]
        large, class_indices = large[left], [class_indices[place] for place in left]
        number, areas = numbered(large, class_indices, merge=False)
    return number, class_indices


def numbered(
    large: torch.Tensor, class_indices: list[int], merge: bool
) -> tuple[np.ndarray, list[int]]:
    winner = large.T.softmax(-1).argmax(-1).view(SEEN_PX)
    if merge:
        for class_index in {class_index for class_index in class_indices if class_index >= THINGS}:
            same = [place for place, other in enumerate(class_indices) if other == class_index]
            for place in same[1:]:
                winner.masked_fill_(winner == place, same[0])
    colors = np.stack([winner.numpy() // 256**k % 256 for k in range(3)], axis=-1)
    image = Image.fromarray(colors.astype(np.uint8))
    small = np.asarray(image.resize(SIZE_PX[::-1], Image.Resampling.NEAREST)).astype(np.int32)
    number = torch.from_numpy(small @ np.array([1, 256, 65536], dtype=np.int32))
    areas = [int((number == place).sum()) for place in range(len(class_indices))]
    return number.numpy(), areas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, object] = {}
    for kept in (15, 40, 100):
        predictions = generate(kept)
        ours = partial(panoptic_segments, predictions, Softmax(), CATEGORIES, SEEN_PX, [SIZE_PX])
        theirs = partial(published, predictions)
        number, class_indices = theirs()
        segments = ours()[0]
        same = segments.classes.tolist() == class_indices
        differing = int((segments.ids.numpy() != number + 1).sum()) if same else number.size
        seconds = time_interleaved({"ours": ours, "published": theirs}, options.rounds)
        results[f"{kept}_queries_kept"] = {
            "times_as_fast_as_published": round(seconds["published"] / seconds["ours"], 2),
            "segments": len(class_indices),
            "pixels_that_differ": differing,
        }
    publish("panoptic reading: 100 queries, 800×1066 to 480×640", results, options.json)


if __name__ == "__main__":
    main()
