"""`predict`: detect objects in images of any kind, and return Python objects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import IOBase
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from setmatch.argument_types import checked_except
from setmatch.data.images.image_io import from_pillow, read_image
from setmatch.data.images.image_paths import find_images
from setmatch.errors import DataError, short
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.options import PredictOptions, ScoreThreshold
from setmatch.inference.pipeline import ImageResult, detect_images
from setmatch.inference.tiles.engine import with_tiles
from setmatch.inference.tiles.views import OVERLAP, Tiles, images_at_once
from setmatch.inference.video.sources import is_video_file
from setmatch.models.detector import Detector

ImageSource = str | Path | Image.Image | Tensor | NDArray[Any]


@overload
def predict(  # type: ignore[overload-overlap]  # a str is also a sequence of str
    model: Detector | Engine,
    images: ImageSource,
    *,
    threshold: ScoreThreshold = None,
    segment_threshold: float | None = None,
    classes: str | int | Sequence[str | int] | None = None,
    batch_size: int = 4,
    tiles: Tiles = None,
    overlap: float = OVERLAP,
) -> ImageResult: ...
@overload
def predict(
    model: Detector | Engine,
    images: Sequence[ImageSource],
    *,
    threshold: ScoreThreshold = None,
    segment_threshold: float | None = None,
    classes: str | int | Sequence[str | int] | None = None,
    batch_size: int = 4,
    tiles: Tiles = None,
    overlap: float = OVERLAP,
) -> list[ImageResult]: ...
@checked_except("images")
def predict(
    model: Detector | Engine,
    images: ImageSource | Sequence[ImageSource],
    *,
    threshold: ScoreThreshold = None,
    segment_threshold: float | None = None,
    classes: str | int | Sequence[str | int] | None = None,
    batch_size: int = 4,
    tiles: Tiles = None,
    overlap: float = OVERLAP,
) -> ImageResult | list[ImageResult]:
    """Detect objects: one `ImageResult` for one image; a list for a list, a folder or a glob.

    To a type checker, a single path is one image: write a folder or glob as a list, ["photos/"].
    Images are files, Pillow images, uint8 tensors (3, H, W) or uint8 arrays (H, W, 3), RGB. The
    result holds the detections that score more than `threshold`, in pixels of the original image,
    turned upright. All images of a batch have the same shape, so results do not depend on the other
    images.

    The default threshold is the model's own, as on the command line: 0.7, as published, for models
    with a "no object" class, else 0.5. 0 returns all detections; "best", those above the threshold
    with the highest F1 of each class, which training stores with the weights. A model with a mask
    head adds masks, and segments that are merged from queries that score more than
    `segment_threshold` (default: 0.85, as published, for models with a "no object" class, else
    0.4). `classes` are the names or indices of those to return (default: all).

    `tiles` also shows the model the parts of large images, in tiles of that many pixels, or "auto":
    as large as the images that it takes. They share `overlap` of their side, at least; objects that
    several show are found once. There are no segments then.

    Raises ConfigError if a threshold, tiles or the batch size are out of range, DataError if an
    image cannot be read or a pattern matches nothing, and WeightsError if the model's outputs are
    not finite.
    """
    engine = with_tiles(as_engine(model), tiles, overlap)
    at_once = images_at_once(tiles, batch_size)
    options = PredictOptions.of(engine, threshold, segment_threshold, at_once, classes)
    sources, is_single = _expand(images)
    results: dict[int, ImageResult] = {}
    for number, result in detect_images(
        engine, len(sources), lambda number: _read(sources[number]), options
    ):
        source = sources[number]
        if isinstance(result, DataError):
            if isinstance(source, Path) and is_video_file(source):
                raise DataError(
                    f"{source}: is a video; call setmatch.predict_video(model, "
                    f'"{source}"), or name images'
                ) from result
            raise result
        if isinstance(source, Path):
            # The images of a folder may not fit into memory. Other sources are in it anyway.
            result = replace(result, path=source, image=None)
        results[number] = result
    return results[0] if is_single else [results[number] for number in range(len(sources))]


def _expand(images: ImageSource | Sequence[ImageSource]) -> tuple[list[ImageSource], bool]:
    """Return the images, with patterns replaced by files, and whether just one was given."""
    if isinstance(images, str | Path):
        return list(find_images([images])), Path(images).is_file()
    if isinstance(images, Image.Image | Tensor | np.ndarray):
        return [images], True
    if not isinstance(images, Iterable) or isinstance(images, bytes | Mapping | IOBase):
        raise _no_image(images)
    sources: list[ImageSource] = []
    for source in images:
        if not isinstance(source, str | Path | Image.Image | Tensor | np.ndarray):
            raise _no_image(source)
        sources += find_images([source]) if isinstance(source, str | Path) else [source]
    return sources, False


def _no_image(given: object) -> DataError:
    return DataError(
        f"{short(given)} ({type(given).__name__}) is not an image; give the path of a file, a "
        "Pillow image (PIL.Image.open takes opened files, and bytes in io.BytesIO), a uint8 tensor "
        "(3, H, W) or array (H, W, 3), or a list of these"
    )


def _conversion(pixels: Tensor | NDArray[Any], dtype: object, channel_axis: int) -> str:
    """Return how pixels of another kind become an image; empty if that is not known."""
    is_array, shape, is_levels = channel_axis == -1, pixels.shape, pixels.dtype == dtype
    if len(shape) == 4:
        return "; for several images, give list(images)"
    if is_array and is_levels and (len(shape) == 2 or shape[-1] in (1, 4)):
        squeezed = ".squeeze()" if shape[-1] == 1 else ""
        return f"; for gray and opacity, give PIL.Image.fromarray(image{squeezed})"
    if len(shape) == 3 and shape[channel_axis] != 3 and shape[-1 - channel_axis] == 3:
        moved = "image.transpose(1, 2, 0)" if is_array else "image.permute(2, 0, 1)"
        return f"; for channels of this order, give {moved}"
    if not is_levels:
        cast = "astype('uint8')" if is_array else "to(torch.uint8)"
        return f"; for values of 0 to 1, give (image * 255).round().{cast}"
    return ""


def _read(source: ImageSource) -> UInt8[Tensor, "3 H W"]:
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, Image.Image):
        return from_pillow(source)
    is_array = isinstance(source, np.ndarray)
    dtype, channel_axis = (np.uint8, -1) if is_array else (torch.uint8, 0)
    is_image = source.dtype == dtype and source.ndim == 3 and source.shape[channel_axis] == 3
    if not is_image or 0 in source.shape:
        given = f"{type(source).__name__} of {source.dtype}, shape {tuple(source.shape)}"
        wanted = "a uint8 tensor (3, H, W) or array (H, W, 3), RGB, of at least one pixel"
        raise DataError(f"{given}: expected {wanted}{_conversion(source, dtype, channel_axis)}")
    if not isinstance(source, np.ndarray):
        return source.cpu()
    # torch takes neither negative strides (BGR reversed to RGB) nor read-only memory.
    owned = np.require(source, requirements=["C_CONTIGUOUS", "WRITEABLE"])
    return torch.from_numpy(owned).permute(2, 0, 1)
