"""The detectors: the whole model on one screen, once as published and once multi-scale."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from setmatch.losses.base import Loss
from setmatch.losses.classification import ClassificationLoss
from setmatch.models.layers.detr_mask_head import all_masks
from setmatch.models.parameter_groups import split_backbone_params, trainable_parameters
from setmatch.structures.batch import Batch, Target
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.outputs import MaskDecoder, PredictionGroup, Predictions

SizesPx = Sequence[tuple[int, int]]  # height, width
Reading = Callable[[Predictions, ClassificationLoss, Categories, SizesPx], list[Detections]]


class Detector(nn.Module):
    """Image in, N slots out.

    `class_loss` says how the logits are to be read, `card` all else that the answers need, and
    `num_queries` how many slots an answer has.
    """

    card: ModelCard
    class_loss: ClassificationLoss
    num_queries: int
    backbone: nn.Module
    mask_head: nn.Module | None

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[PredictionGroup, ...]:
        """Return the streams of predictions, "main" first; the same in training and evaluation.

        A model in training may make further streams from `targets`, to learn from.
        """
        raise TypeError("a detector is one of the compositions below")

    @property
    def default_threshold(self) -> float:
        """The score above which an answer is shown, unless a user says otherwise."""
        return self.class_loss.default_threshold

    def objective(self, set_loss: Callable[[ClassificationLoss], Loss]) -> Loss:
        """Return what training minimizes: `set_loss`, unless a model brings its own losses."""
        return set_loss(self.class_loss)

    def answers(self, batch: Batch, sizes_px: SizesPx, reading: Reading) -> list[Detections]:
        """Return what is found in each image, best first, in pixels of `sizes_px`.

        `reading` reads a set of predictions, unless a model reads its answers itself.
        """
        main = self(batch)[0]
        return reading(main.predictions, self.class_loss, self.card.categories, sizes_px)

    def _with_masks(self, predictions: Predictions, mask_decoder: MaskDecoder) -> PredictionGroup:
        """Return the stream "main": with all masks, or in training with what makes them."""
        if self.training:
            return PredictionGroup("main", predictions, mask_decoder=mask_decoder)
        _, images, queries, _ = predictions.logits.shape
        masks = all_masks(mask_decoder, images, queries, predictions.logits.device)
        return PredictionGroup("main", replace(predictions, masks=masks))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters that are trained, the trunk's apart: it learns more slowly."""
        return split_backbone_params({"rest": trainable_parameters(self)}, self.backbone)
