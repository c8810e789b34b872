"""Verify an exported file: run it beside the model in PyTorch, and compare every detection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from setmatch.data.batches.transforms import preprocess
from setmatch.data.images.image_io import read_image
from setmatch.data.images.image_paths import find_images
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy.precision.precision import PrecisionLoss
from setmatch.deploy.verification.compare_detections import (
    USUAL,
    Difference,
    RankedDetections,
    Tolerance,
    compare_detections,
    ranked_detections,
)
from setmatch.deploy.verification.near_ties import compared_despite_ties
from setmatch.errors import ConfigError, VerificationError, WeightsError
from setmatch.inference.engines.eager import EagerEngine
from setmatch.models.detector import Detector
from setmatch.ops.image_size import evaluation_px
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.outputs import Predictions

if TYPE_CHECKING:
    from rich.table import Table

BATCHES = (1, 2, 5)
MOST_IMAGES = 8  # of those to verify on
_SCENES, _SCENE_PX = 5, 320
Run = Callable[[Batch], Predictions]  # the predictions of a batch on the CPU
Explain = Callable[[Float[Tensor, "B 3 H W"]], str]  # where a graph first differs on some images


@dataclass(frozen=True)
class NamedImage:
    """An image to verify on; `name` is for messages."""

    name: str
    pixels: UInt8[Tensor, "3 H W"]


@dataclass(frozen=True)
class Check:
    """A comparison on some images: of what, (height, width), images in a batch, and the result."""

    of: str
    size_px: tuple[int, int]
    batch: int
    difference: Difference


@dataclass(frozen=True)
class Verification:
    """All comparisons of exported files, which belong together, with their model.

    They are of the files in float32; `loss` is what a lower precision costs.
    """

    checks: tuple[Check, ...]
    files: tuple[Path, ...] = ()
    loss: PrecisionLoss | None = None

    def totals(self) -> dict[tuple[str, tuple[int, int], int], Difference]:
        """Return the largest differences, and the number of detections, of each kind of check."""
        totals: dict[tuple[str, tuple[int, int], int], Difference] = {}
        for each in self.checks:
            kind = (each.of, each.size_px, each.batch)
            totals[kind] = totals.get(kind, Difference()) + each.difference
        return totals

    def table(self) -> "Table":
        """Return the comparisons for a rich console."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        with_masks = any(each.difference.mask for each in self.checks)
        table = Table("compared", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for head in ("size", "batch", "detections", "boxes (px)", "scores"):
            table.add_column(head, justify="right")
        if with_masks:
            table.add_column("masks", justify="right")
        for (of, (height, width), batch), found in self.totals().items():
            numbers = [found.box_px, found.score, *([found.mask] if with_masks else [])]
            cells = (str(batch), str(found.compared), *(f"{number:.1e}" for number in numbers))
            table.add_row(of, f"{height}x{width}", *cells)
        return table


def verify(
    detector: Detector,
    run: Run,
    preprocessing: Preprocessing,
    images: Sequence[NamedImage],
    explain: Explain,
    tolerance: Tolerance = USUAL,
    sizes_px: Sequence[tuple[int, int]] | None = None,
) -> list[Check]:
    """Compare a file with the model on images of several sizes and batches of them.

    `detector` is in float32 on the CPU, and in evaluation mode.
    `sizes_px` are (height, width), by default of `sizes_to_verify`. `run` computes predictions with
    the file. Raises VerificationError for the first batch in which a detection is missing or too
    far off, with the image and what `explain` returns. Detections that depend on a near tie may be
    those of the model for a rounding of the image (see `near_ties`).
    """
    eager = EagerEngine(detector)
    checks = []
    for size_px in sizes_px or sizes_to_verify(preprocessing):
        for count in BATCHES:
            chosen = [images[number % len(images)] for number in range(count)]
            batch = Batch.from_images(
                [preprocess(each.pixels, preprocessing, size_px) for each in chosen]
            )
            expected = eager.detect(batch, [size_px] * count).predictions
            assert expected is not None, "detection transformers return their predictions"
            at = f"{size_px[0]}x{size_px[1]} px, batch of {count}"
            try:
                given = run(batch)
            except (ConfigError, WeightsError) as error:
                raise VerificationError(f"{at}: {error}") from None
            found = given.logits.shape[1]
            if found != count:
                raise VerificationError(f"{at}: the file returns predictions for {found} images")
            total = Difference()
            pairs = zip(
                ranked_detections(expected, detector.class_loss, size_px),
                ranked_detections(given, detector.class_loss, size_px),
                strict=True,
            )
            for number, (image, (ours, theirs)) in enumerate(zip(chosen, pairs, strict=True)):
                exact = compare_detections(ours, theirs, detector.card.categories, tolerance)
                compared = partial(_compared, eager, theirs, size_px, tolerance)
                pixels = batch.pixels[number]
                one = compared_despite_ties(eager, pixels, size_px, compared, exact)
                if one.problem:
                    raise VerificationError(
                        f"{image.name} at {at}: {one.problem}; {explain(batch.pixels)}"
                    )
                total += one
            checks.append(Check("network", size_px, count, total))
    return checks


def _compared(
    eager: EagerEngine,
    theirs: RankedDetections,
    size_px: tuple[int, int],
    tolerance: Tolerance,
    predictions: Predictions,
) -> Difference:
    """Return how detections of a file differ from the model's predictions for one image."""
    (ours,) = ranked_detections(predictions, eager.class_loss, size_px)
    return compare_detections(ours, theirs, eager.card.categories, tolerance)


def sizes_to_verify(preprocessing: Preprocessing) -> list[tuple[int, int]]:
    """Return (height, width) of the model's input: as usual, upright and smaller, odd and small."""
    if preprocessing.size_px is not None:
        return [preprocessing.size_px]
    usual = evaluation_px((480, 640), preprocessing)
    return [usual, (usual[1] * 3 // 4, usual[0] * 3 // 4), (usual[0] // 2 | 1, usual[1] // 3 | 1)]


def images_to_verify(source: str | Path | None) -> list[NamedImage]:
    """Return the first images of a file, folder or pattern, or generated scenes.

    Raises DataError if there is none, or one cannot be read.
    """
    if source is None:
        painted = [scene((0, number), _SCENE_PX).pixels for number in range(_SCENES)]
        return [
            NamedImage(f"generated scene {number}", torch.from_numpy(pixels).permute(2, 0, 1))
            for number, pixels in enumerate(painted)
        ]
    paths = find_images([source])[:MOST_IMAGES]
    return [NamedImage(str(path), read_image(path)) for path in paths]


def as_array(image: UInt8[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return an image as an end-to-end file takes it."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())
