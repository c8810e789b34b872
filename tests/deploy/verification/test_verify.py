"""What verification refuses, and what it takes: near ties may be broken either way."""

from collections.abc import Sequence

import pytest
from torch import Tensor

from fake_detectors import RedFinder, red_box_image
from setmatch.deploy.verification.verify import Check, NamedImage, verify
from setmatch.errors import VerificationError
from setmatch.inference.engines.eager import EagerEngine
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import PredictionGroup, Predictions


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


class Choosy(RedFinder):
    """Moves its box by half a pixel if the first of two pixels is brighter, as a choice by score.

    `tie` says which is chosen if they are equal.
    """

    def __init__(self, tie: bool, moves_px: float = 0.5) -> None:
        super().__init__()
        self.tie, self.moves = tie, moves_px / 64

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        (group,) = super().forward(batch)
        one, other = batch.pixels[:, 0, 0, 0], batch.pixels[:, 0, 0, 1]
        chosen = (one > other) | ((one == other) & self.tie)
        cxcywh = group.predictions.cxcywh + self.moves * chosen[None, :, None, None]
        return (PredictionGroup("main", Predictions(group.predictions.logits, cxcywh)),)


def verified(model: RedFinder, file: RedFinder, image: Tensor) -> list[Check]:
    def run(batch: Batch) -> Predictions:
        sizes_px = [(64, 64)] * len(batch.pixels)
        predictions = EagerEngine(file.eval()).detect(batch, sizes_px).predictions
        assert predictions is not None
        return predictions

    named = [NamedImage("red", image)]
    return verify(
        model.eval(), run, model.card.preprocessing, named, lambda _: "here", sizes_px=[(64, 64)]
    )


RED = red_box_image(64, 64, (10, 16, 40, 48))


@pytest.mark.parametrize("tie", [False, True])
def test_a_file_that_breaks_a_near_tie_the_other_way_is_taken(tie: bool):
    """Its detections are those of the model for an image that differs by rounding."""
    checks = verified(Choosy(tie), Choosy(not tie), RED)
    assert [each.difference.compared for each in checks] == [2, 4, 10]
    assert max(each.difference.box_px for each in checks) < 1e-3


@pytest.mark.parametrize("moves_px", [0.49, 0.51, -0.5])
def test_a_file_that_is_off_at_a_near_tie_is_refused(moves_px: float):
    with pytest.raises(VerificationError, match="tolerances off; here"):
        verified(Choosy(False), Choosy(True, moves_px), RED)


def test_a_file_that_chooses_wrongly_without_a_tie_is_refused():
    image = RED.clone()
    image[0, 0, 1] -= 1
    with pytest.raises(VerificationError, match="tolerances off; here"):
        verified(Choosy(False), Choosy(False, -0.5), image)
