"""Objects in any pictures, as Python objects."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from setmatch.data.image_io import from_pillow, read_image
from setmatch.data.image_paths import find_images
from setmatch.errors import DataError
from setmatch.inference.engines.eager import inference_mode
from setmatch.inference.pipeline import ImageResult, PredictOptions, find
from setmatch.models.detector import Detector

Picture = str | Path | Image.Image | Tensor | NDArray[Any]


def predict(
    model: Detector,
    images: Picture | Sequence[Picture],
    *,
    threshold: float = 0.0,
    segment_threshold: float | None = None,
    batch_size: int = 4,
) -> ImageResult | list[ImageResult]:
    """Find objects: one `ImageResult` for one picture; a list for a list, a folder or a glob.

    Pictures are files, Pillow images, uint8 tensors (3, H, W) or uint8 arrays (H, W, 3), RGB.
    Detections that score more than `threshold` come back, in pixels of the upright original; from
    a model with a mask head with their masks, and with segments merged from what scores more than
    `segment_threshold` (default: 0.85, as published, where "no object" is an answer, else 0.4).
    Batches hold pictures of one shape, so that no answer depends on a picture's company.
    Raises ConfigError for thresholds or a batch that cannot be, DataError for a picture that cannot
    be read or a pattern that matches nothing, and WeightsError when the model's answers are not
    finite.
    """
    terms = PredictOptions(threshold, segment_threshold, batch_size)
    pictures, single = _listed(images)
    found: dict[int, ImageResult] = {}
    with inference_mode(model):
        for number, answer in find(model, len(pictures), lambda n: _pixels(pictures[n]), terms):
            if isinstance(answer, DataError):
                raise answer
            picture = pictures[number]
            if isinstance(picture, Path):
                # A folder's pictures would fill the memory; those given are in it anyway.
                answer = replace(answer, path=picture, image=None)
            found[number] = answer
    return found[0] if single else [found[number] for number in range(len(pictures))]


def _listed(images: Picture | Sequence[Picture]) -> tuple[list[Picture], bool]:
    """Return the pictures, patterns spelled out as files, and whether just one was given."""
    if isinstance(images, str | Path):
        return list(find_images([images])), Path(images).is_file()
    if isinstance(images, Image.Image | Tensor | np.ndarray):
        return [images], True
    pictures: list[Picture] = []
    for picture in images:
        pictures += find_images([picture]) if isinstance(picture, str | Path) else [picture]
    return pictures, False


def _pixels(picture: Picture) -> UInt8[Tensor, "3 H W"]:
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return from_pillow(picture)
    is_array = isinstance(picture, np.ndarray)
    bytes_, channels = (np.uint8, -1) if is_array else (torch.uint8, 0)
    if picture.dtype != bytes_ or picture.ndim != 3 or picture.shape[channels] != 3:
        given = f"{type(picture).__name__} of {picture.dtype}, shape {tuple(picture.shape)}"
        raise DataError(f"{given}: expected a uint8 tensor (3, H, W) or array (H, W, 3), RGB")
    if not isinstance(picture, np.ndarray):
        return picture.cpu()
    # Views that run backwards (BGR turned round) or are read-only are none of a tensor's memory.
    own = np.require(picture, requirements=["C_CONTIGUOUS", "WRITEABLE"])
    return torch.from_numpy(own).permute(2, 0, 1)
