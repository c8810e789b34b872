"""Verify what an end-to-end file does before and after the network."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from setmatch.data.batches.transforms import normalize, preprocess
from setmatch.deploy.formats.base import INNER
from setmatch.deploy.verification.compare_detections import (
    USUAL,
    Difference,
    RankedDetections,
    Tolerance,
    amid_largest_gap,
    compare_detections,
    ranked_detections,
)
from setmatch.deploy.verification.near_ties import compared_despite_ties
from setmatch.deploy.verification.verify import Check, NamedImage, as_array
from setmatch.errors import VerificationError
from setmatch.inference.engines.eager import EagerEngine
from setmatch.inference.engines.session import Session
from setmatch.models.detector import Detector
from setmatch.ops.image_size import evaluation_px
from setmatch.postprocessing.detections import instances
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.outputs import Predictions

# Other runtimes and torchvision round differently, by a level in each of two passes over an image.
MOST_LEVELS = 2  # of 255
MOST_TWICE = 1e-3  # of an image's values, which both passes may round differently
MOST_PIXELS = 1e-3  # of an image, in which a mask may differ


def verify_ends(
    detector: Detector,
    session: Session,
    preprocessing: Preprocessing,
    images: Sequence[NamedImage],
    tolerance: Tolerance = USUAL,
) -> list[Check]:
    """Compare an end-to-end graph with the model on whole images, on parts and upright ones.

    Resized images may differ by MOST_LEVELS; boxes, scores and masks are then compared with those
    of the model for the very same resized image. `session` returns INNER values, too. Raises
    VerificationError.
    """
    eager = EagerEngine(detector)
    return [
        _check(session, eager, preprocessing, image.name, part, tolerance)
        for image in images
        for part in _parts(image.pixels)
    ]


def _parts(image: UInt8[Tensor, "3 H W"]) -> list[UInt8[Tensor, "3 _ _"]]:
    """Return the image, and a part of it in both orientations."""
    height, width = image.shape[1:]
    cut = image[:, : height * 2 // 3 + 1, : width // 2 + 1]
    return [image, cut, cut.transpose(1, 2).contiguous()]


def _check(
    session: Session,
    eager: EagerEngine,
    preprocessing: Preprocessing,
    name: str,
    image: Tensor,
    tolerance: Tolerance,
) -> Check:
    """Compare the detections of one image; raises VerificationError."""
    size_px = (image.shape[1], image.shape[2])
    at = f"{name} of {size_px[0]}x{size_px[1]} px"
    inner = session.run(INNER, {"image": as_array(image), "threshold": np.ones(1, np.float32)})
    resized, pixels = (torch.from_numpy(each) for each in inner)
    require_resized(resized[0], image, preprocessing, at)
    if not torch.allclose(pixels[0], normalize(resized[0], preprocessing), atol=1e-5):
        raise VerificationError(f"{at}: the graph normalizes pixels differently")
    seen_px = (pixels.shape[2], pixels.shape[3])
    predictions = eager.detect(Batch.from_images([pixels[0]]), [size_px]).predictions
    assert predictions is not None, "detection transformers return their predictions"
    (expected,) = ranked_detections(predictions, eager.class_loss, size_px)
    threshold = amid_largest_gap(expected.scores)
    outputs = ["boxes", "classes", "scores", *(["masks"] if eager.has_masks else [])]
    boxes, classes, scores, *masks = (
        torch.from_numpy(each)
        for each in session.run(
            outputs,
            {"image": as_array(image), "threshold": np.array([threshold], np.float32)},
        )
    )
    given = RankedDetections(scores, classes, boxes)

    def compared(predictions: Predictions) -> Difference:
        (expected,) = ranked_detections(predictions, eager.class_loss, size_px)
        kept = expected.scores > threshold
        expected = RankedDetections(
            expected.scores[kept], expected.class_indices[kept], expected.xyxy_px[kept]
        )
        found = compare_detections(expected, given, eager.card.categories, tolerance)
        problem = found.problem
        if len(scores) != len(expected.scores):
            problem = f"{len(scores)} detections instead of {len(expected.scores)}"
        if masks and not problem:
            problem = _mask_problem(eager, predictions, seen_px, size_px, threshold, masks[0])
        return dataclasses.replace(found, problem=problem)

    exact = compared(predictions)
    found = compared_despite_ties(eager, pixels[0], size_px, compared, exact)
    if found.problem:
        raise VerificationError(f"{at}: {found.problem}; the graph differs after the network")
    return Check("end to end", size_px, 1, found)


def require_resized(resized: Tensor, image: Tensor, preprocessing: Preprocessing, at: str) -> None:
    """Raise VerificationError if a graph resizes an image otherwise than by rounding."""
    wanted_px = evaluation_px((image.shape[1], image.shape[2]), preprocessing)
    if tuple(resized.shape[1:]) != wanted_px:
        sizes = " instead of ".join(
            f"{height}x{width}" for height, width in (tuple(resized.shape[1:]), wanted_px)
        )
        raise VerificationError(f"{at}: the graph resizes it to {sizes} px")
    pixels = preprocess(image, Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)), wanted_px) * 255
    levels = (resized.float() - pixels).abs()
    twice = float((levels > 1.01).float().mean())
    if levels.max() > MOST_LEVELS + 0.01 or twice > MOST_TWICE:
        raise VerificationError(
            f"{at}: resized pixels differ by {float(levels.max()):.0f} of 255, {twice:.2%} of them "
            "by more than 1"
        )


def _mask_problem(
    eager: EagerEngine,
    predictions: Predictions,
    seen_px: tuple[int, int],
    size_px: tuple[int, int],
    threshold: float,
    masks: Bool[Tensor, "N H W"],
) -> str:
    (expected,) = instances(
        predictions, eager.class_loss, eager.card.categories, seen_px, [size_px], threshold
    )
    assert expected.masks is not None, "instances have masks"
    for ours, theirs in zip(expected.masks.unpack(), masks, strict=True):
        apart = float((ours != theirs).float().mean())
        if apart > MOST_PIXELS:
            return f"a mask differs in {apart:.2%} of the pixels"
    return ""
