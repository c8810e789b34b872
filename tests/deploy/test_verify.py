"""A file is refused if it does not return predictions for each image of a batch."""

from collections.abc import Sequence

import pytest

from fake_detectors import RedFinder, red_box_image
from setmatch.deploy.verify import NamedImage, verify
from setmatch.errors import VerificationError
from setmatch.inference.engines.eager import EagerEngine
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import Predictions


@pytest.mark.parametrize("most", [1, 2])
def test_a_file_that_loses_images_of_a_batch_is_refused(most: int):
    """As an exporter writes one that has taken the number of images for a constant."""
    model = RedFinder().eval()

    def run(batch: Batch) -> Predictions:
        few: Sequence[int] = range(min(len(batch.pixels), most))
        some = Batch.from_images([batch.pixels[number] for number in few])
        predictions = EagerEngine(model).detect(some, [(64, 64)] * len(few)).predictions
        assert predictions is not None
        return predictions

    image = NamedImage("red", red_box_image(64, 64, (10, 16, 40, 48)))
    with pytest.raises(VerificationError, match=f"returns predictions for {most} images"):
        verify(
            model, run, model.card.preprocessing, [image], lambda pixels: "", sizes_px=[(64, 64)]
        )
