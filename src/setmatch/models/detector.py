"""The detectors: the whole model on one screen, once as published and once multi-scale."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from setmatch.losses.base import Objective
from setmatch.losses.classification import Scoring
from setmatch.models.layers.detr_mask_head import every_mask
from setmatch.models.parameter_groups import trained, trunk_apart
from setmatch.structures.batch import Batch, Target
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Card, Categories
from setmatch.structures.outputs import MasksOf, Predictions, Stream

SizesPx = Sequence[tuple[int, int]]  # height, width
Reading = Callable[[Predictions, Scoring, Categories, SizesPx], list[Detections]]


class Detector(nn.Module):
    """Image in, N slots out.

    `scoring` says how the logits are to be read, `card` all else that the answers need, and
    `num_queries` how many slots an answer has.
    """

    card: Card
    scoring: Scoring
    num_queries: int
    backbone: nn.Module
    mask_head: nn.Module | None

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[Stream, ...]:
        """Return the streams of predictions, "main" first; the same in training and evaluation.

        A model in training may make further streams from `targets`, to learn from.
        """
        raise TypeError("a detector is one of the compositions below")

    @property
    def shown(self) -> float:
        """The score above which an answer is shown, unless a user says otherwise."""
        return self.scoring.shown

    def objective(self, set_loss: Callable[[Scoring], Objective]) -> Objective:
        """Return what training minimises: `set_loss`, unless a model brings its own losses."""
        return set_loss(self.scoring)

    def answers(self, batch: Batch, sizes_px: SizesPx, reading: Reading) -> list[Detections]:
        """Return what is found in each image, best first, in pixels of `sizes_px`.

        `reading` reads a set of predictions, unless a model reads its answers itself.
        """
        main = self(batch)[0]
        return reading(main.predictions, self.scoring, self.card.categories, sizes_px)

    def _with_masks(self, predictions: Predictions, masks_of: MasksOf) -> Stream:
        """Return the stream "main": with all masks, or in training with what makes them."""
        if self.training:
            return Stream("main", predictions, masks_of=masks_of)
        _, images, queries, _ = predictions.logits.shape
        masks = every_mask(masks_of, images, queries, predictions.logits.device)
        return Stream("main", replace(predictions, masks=masks))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters that are trained, the trunk's apart: it learns more slowly."""
        return trunk_apart({"rest": trained(self)}, self.backbone)
