"""The inputs on which lower precision is calibrated, as an exported graph takes them."""

from collections.abc import Iterator

import numpy as np

from setmatch.data.batches.transforms import preprocess
from setmatch.data.dataset import DetectionDataset
from setmatch.deploy.precision.training_images import training_images
from setmatch.deploy.verification.verify import as_array
from setmatch.inference.engines.exported_card import ExportedCard


def calibration_inputs(
    exported: ExportedCard, images: DetectionDataset
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the inputs of a graph for some images of the training data.

    Raises DataError if none can be read.
    """
    for pixels in training_images(images):
        if exported.end_to_end:
            yield {"image": as_array(pixels), "threshold": np.array([0.5], np.float32)}
        else:
            yield {"pixels": preprocess(pixels, exported.card.preprocessing)[None].numpy()}
