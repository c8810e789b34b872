"""The base class of all detectors: everything other rooms need to know of a model."""

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.errors import ConfigError
from setmatch.losses.base import Loss
from setmatch.losses.classification import ClassificationLoss
from setmatch.models.class_rows import QUERY_CLASS_ROWS, ClassRows
from setmatch.models.layers.cells import Cells, hide
from setmatch.models.layers.heads.detr_mask_head import all_masks
from setmatch.models.parameter_groups import (
    GroupParameters,
    ParameterGroups,
    backbone_and_rest,
)
from setmatch.postprocessing.detections import detections
from setmatch.structures.attention import AttentionTrace
from setmatch.structures.batch import Batch, Target, require_batch, require_sizes
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import MaskDecoder, ModelOutput, PredictionGroup, Predictions

SizesPx = Sequence[tuple[int, int]]  # height, width


def require_weights(model: Any, purpose: str) -> None:
    """Raise ConfigError for what has no weights: the engine of an exported file, a path."""
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model: expected a Detector to {purpose}, got {type(model).__name__}; load one from a "
            "run folder or weights (setmatch.load), for an exported file holds none"
        )


class Detector(nn.Module):
    """An image in, a fixed number of predictions out.

    A subclass sets `class_loss` (how logits are read and trained), `num_queries`, `backbone` and,
    if it predicts masks, `mask_head`, and implements `forward`. `card` and `box_preset` are set by
    `setmatch.models.registry.build`.
    """

    has_queries = True  # False for baselines: no object queries, no attention
    fixed_queries = False  # True: the queries are learned embeddings, the same for every image
    box_preset: str | None = None  # name of the preset without the mask head, if there is one
    class_rows: tuple[ClassRows, ...] = QUERY_CLASS_ROWS  # tensors with a row for each class
    card: ModelCard
    class_loss: ClassificationLoss
    num_queries: int
    backbone: nn.Module
    mask_head: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.mask_head = None
        self._parameter_groups: GroupParameters = backbone_and_rest

    def __call__(self, batch: Any, *others: Any, **named: Any) -> Any:
        """Run `forward`, after checking that it gets a Batch that it can compute on.

        Raises ConfigError if it is none, or is on another device or of another type than the
        weights.
        """
        require_batch(batch)
        # A hook may move or convert the batch.
        if not (self._forward_pre_hooks or torch.compiler.is_compiling()):
            self._require_alike(batch.pixels)
        return super().__call__(batch, *others, **named)

    def _require_alike(self, pixels: Float[Tensor, "B 3 H W"]) -> None:
        weight = next(self.parameters(), pixels)
        if weight.device != pixels.device:
            raise ConfigError(
                f"the batch is on {pixels.device}, and the model on {weight.device}; move the "
                f"batch with batch.to({str(weight.device)!r})"
            )
        is_cast = torch.is_autocast_enabled(pixels.device.type)
        if weight.is_floating_point() and weight.dtype != pixels.dtype and not is_cast:
            raise ConfigError(
                f"the images are {_name_of(pixels.dtype)}, and the weights of the model "
                f"{_name_of(weight.dtype)}; call model.float(), convert the images, or compute "
                "under torch.autocast"
            )

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[PredictionGroup, ...]:
        """Return groups of predictions, "main" first; the same type in training and evaluation.

        In training a model may add groups made from `targets`, such as denoising queries.
        """
        raise NotImplementedError(f"{type(self).__name__} implements no forward")

    @property
    def has_masks(self) -> bool:
        """True if the model predicts a mask for every query."""
        return self.mask_head is not None

    @property
    def default_threshold(self) -> float:
        """The confidence score above which a detection is shown by default."""
        return self.class_loss.default_threshold

    def objective(self, set_loss: Callable[[ClassificationLoss], Loss]) -> Loss:
        """Return the loss to minimize: `set_loss`, unless the model brings its own."""
        return set_loss(self.class_loss)

    @property
    def hides_padding(self) -> bool:
        """True if an image in a padded batch has the same predictions as alone.

        It depends on the backbone: published ones let padding reach the borders of an image.
        """
        return bool(getattr(getattr(self, "backbone", None), "hides_padding", False))

    def feature_levels(self, batch: Batch) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the feature maps of the backbone, fine to coarse."""
        if batch.padded and self.hides_padding:
            on_images = Cells(batch.valid)
            return self.backbone(hide(batch.pixels, on_images), on_images)
        return self.backbone(batch.pixels)

    def detect(self, batch: Batch, sizes_px: SizesPx) -> ModelOutput:
        """Return the detections of each image, best first, in pixels of the original images.

        `batch` is on the model's device; `sizes_px` are the (height, width) of the originals.
        Padding changes no detection: where the model would let it, images are run one by one.
        Raises ConfigError for another batch, or sizes that do not belong to it.
        """
        require_batch(batch)
        require_sizes(sizes_px, len(batch.pixels))
        if batch.padded and not self.hides_padding:
            alone = zip(batch.one_by_one(), sizes_px, strict=True)
            return _joined([self.detect(image, [size_px]) for image, size_px in alone])
        predictions = self(batch)[0].predictions
        return ModelOutput(
            detections(predictions, self.class_loss, self.card.categories, sizes_px), predictions
        )

    def attention_trace(self, batch: Batch) -> AttentionTrace:
        """Return the attention of one forward pass, with the predictions it led to.

        `batch` holds one image and is on the model's device; the model is in evaluation mode.
        Raises ConfigError for a model without attention to show, WeightsError if its predictions
        are not finite.
        """
        raise ConfigError(
            f"model {self.card.preset}: not a detection transformer that traces its attention; "
            "there is no attention to show"
        )

    def _with_masks(self, predictions: Predictions, mask_decoder: MaskDecoder) -> PredictionGroup:
        """Return the group "main" with all masks, or in training with their decoder."""
        if self.training:
            return PredictionGroup("main", predictions, mask_decoder=mask_decoder)
        _, images, queries, _ = predictions.logits.shape
        masks = all_masks(mask_decoder, images, queries, predictions.logits.device)
        return PredictionGroup("main", replace(predictions, masks=masks))

    def parameter_groups(self) -> ParameterGroups:
        """Return the trainable parameters, grouped as the model was built to be trained.

        By default the backbone has a learning rate of its own.
        """
        return self._parameter_groups(self)

    def rate_factors(self) -> dict[int, float]:
        """Return, by their `id`, parameters that learn at a fraction of their group's rate."""
        return {}

    def undecayed(self) -> Set[int]:
        """Return the `id` of each parameter without weight decay."""
        return frozenset()


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _joined(outputs: Sequence[ModelOutput]) -> ModelOutput:
    """Return the outputs of several images as those of one batch.

    There are no raw predictions if images have different numbers of queries or sizes of masks.
    """
    found = [each for output in outputs for each in output.detections]
    raw = [output.predictions for output in outputs if output.predictions is not None]
    masks = [each.masks for each in raw if each.masks is not None]
    shapes = {each.logits.shape for each in raw}, {each.shape for each in masks}
    if len(raw) < len(outputs) or any(len(alike) > 1 for alike in shapes):
        return ModelOutput(found, None)
    predictions = Predictions(
        torch.cat([each.logits for each in raw], dim=1),
        torch.cat([each.cxcywh for each in raw], dim=1),
        torch.cat(masks) if masks else None,
    )
    return ModelOutput(found, predictions)
