"""Turn an image into the input of a network."""

import numpy as np
from jaxtyping import Float32, UInt8

from setmatch.inference.arrays.resize import resize
from setmatch.ops.image_size import evaluation_px
from setmatch.structures.metadata import Preprocessing


def preprocess(
    image: UInt8[np.ndarray, "H W 3"], preprocessing: Preprocessing
) -> Float32[np.ndarray, "3 h w"]:
    """Resize and normalize an image, to the same numbers as the function for tensors."""
    resized = resize(image, evaluation_px((image.shape[0], image.shape[1]), preprocessing))
    mean, std = (np.array(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std))
    channels = resized.transpose(2, 0, 1)
    pixels = np.empty(channels.shape, np.float32)
    np.multiply(channels, (1 / (255 * std)).astype(np.float32), out=pixels)
    pixels -= (mean / std).astype(np.float32)
    return pixels
