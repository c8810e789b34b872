"""Images on which lower precision is calibrated, as an exported graph takes them."""

from collections.abc import Iterator

import numpy as np

from setmatch.data.batches.transforms import preprocess
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.image_io import read_image
from setmatch.deploy.verification.verify import as_array
from setmatch.inference.engines.exported_card import ExportedCard

CALIBRATED_ON = 32  # images, from which the range of each activation is measured


def calibration_inputs(
    exported: ExportedCard, images: DetectionDataset
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the inputs of a graph for some images of the training data, evenly chosen."""
    count = min(len(images), CALIBRATED_ON)
    for place in range(count):
        pixels = read_image(images.path(place * len(images) // count))
        if exported.end_to_end:
            yield {"image": as_array(pixels), "threshold": np.array([0.5], np.float32)}
        else:
            yield {"pixels": preprocess(pixels, exported.card.preprocessing)[None].numpy()}
