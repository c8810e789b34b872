"""What verification refuses, and what it takes: near ties may be broken either way."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fake_detectors import RedFinder, red_box_image
from setmatch.deploy.verification.near_ties import FirstOfEquals
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


class FirstOf(RedFinder):
    """Moves its box as far as the first of the tokens that it chooses says.

    The scores do not depend on the image, as in a model that has hardly learned.
    """

    def __init__(self, scores: Tensor, chosen: int, by_index: bool) -> None:
        super().__init__()
        self.scores, self.chosen, self.by_index = scores, chosen, by_index

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        (group,) = super().forward(batch)
        if self.by_index:
            tokens = self.scores.sort(descending=True, stable=True).indices[: self.chosen]
        else:
            tokens = self.scores.topk(self.chosen).indices
        moved = float(tokens.sum()) / len(self.scores) ** 2
        cxcywh = group.predictions.cxcywh + moved
        return (PredictionGroup("main", Predictions(group.predictions.logits, cxcywh)),)


@pytest.mark.parametrize("levels", [1, 2, 3, 10])
@pytest.mark.parametrize("chosen", [1, 5, 20, 39])
def test_a_file_that_takes_the_first_of_equal_scores_is_taken(levels: int, chosen: int):
    scores = torch.randint(0, levels, (40,), generator=torch.Generator().manual_seed(levels)) / 1.0
    checks = verified(FirstOf(scores, chosen, False), FirstOf(scores, chosen, True), RED)
    assert max(each.difference.box_px for each in checks) < 1e-3


@pytest.mark.parametrize("chosen", [1, 5, 20])
def test_a_file_that_takes_others_than_the_best_is_refused(chosen: int):
    scores = torch.arange(40.0)
    with pytest.raises(VerificationError, match="tolerances off"):
        verified(FirstOf(scores, chosen, False), FirstOf(-scores, chosen, True), RED)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_the_first_of_equals_are_the_best_of_a_stable_sort(dim: int, largest: bool, levels: int):
    values = torch.randint(0, levels, (30, 50), generator=torch.Generator().manual_seed(0))
    with FirstOfEquals():
        best, indices = values.topk(7, dim, largest)
        last = values.topk(7).values
    order = values.sort(dim=dim, descending=largest, stable=True)
    assert best.equal(order.values.narrow(dim, 0, 7))
    assert indices.equal(order.indices.narrow(dim, 0, 7))
    assert last.equal(values.topk(7).values)
