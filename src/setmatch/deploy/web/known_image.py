"""An image with known detections, by which a page checks itself on every machine that opens it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from setmatch.data.batches.transforms import normalize
from setmatch.deploy.verification.compare_detections import (
    USUAL,
    RankedDetections,
    amid_largest_gap,
    compare_detections,
    ranked_detections,
)
from setmatch.deploy.web.network import page_detections
from setmatch.errors import VerificationError
from setmatch.html.images import image_uri
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.ops.image_size import evaluation_px
from setmatch.structures.batch import Batch

_COLORS = 128  # a file of few colors is small without a loss


@dataclass(frozen=True)
class KnownImage:
    """A PNG file as a data: URI, and the detections in it that score more than `threshold`."""

    uri: str
    threshold: float
    detections: RankedDetections


def known_image(path: Path, image: UInt8[Tensor, "3 H W"]) -> KnownImage:
    """Return an image at the size of the model's input, and what the network of `path` detects.

    The page neither resizes it nor loses anything in decoding it, so that it computes with the very
    same pixels. Raises VerificationError if the graph ranks other detections than setmatch decodes.
    """
    engine = OnnxRuntimeEngine(path)
    size_px = evaluation_px((image.shape[1], image.shape[2]), engine.card.preprocessing)
    shown = _of_few_colors(F.resize(image, list(size_px), antialias=True))
    pixels = torch.from_numpy(np.array(shown.convert("RGB"))).permute(2, 0, 1)
    batch = Batch.from_images([normalize(pixels, engine.card.preprocessing)])
    (decoded,) = ranked_detections(engine.predict(batch), engine.class_loss, size_px)
    ranked = page_detections(path, batch.pixels, size_px)
    problem = compare_detections(decoded, ranked, engine.card.categories, USUAL).problem
    if problem:
        raise VerificationError(f"{path.name}: {problem}; the graph ranks detections differently")
    threshold = amid_largest_gap(ranked.scores)
    kept = ranked.scores > threshold
    detections = RankedDetections(
        ranked.scores[kept], ranked.class_indices[kept], ranked.xyxy_px[kept]
    )
    return KnownImage(image_uri(shown, "PNG", optimize=True), threshold, detections)


def _of_few_colors(image: UInt8[Tensor, "3 H W"]) -> Image.Image:
    whole = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return whole.quantize(_COLORS, dither=Image.Dither.NONE)
