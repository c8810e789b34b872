"""Frozen parts of a model, which keep what they know while the rest is trained."""

from torch import nn

from setmatch.config import Recipe, TrainSettings
from setmatch.errors import ConfigError
from setmatch.models.detector import Detector

NORMS = nn.modules.batchnorm._BatchNorm
PARTS = {
    "stem": ("backbone.stem",),
    "backbone": ("backbone",),
    "encoder": ("backbone", "encoder"),
    "none": (),
}
FEWER = {"stem": "none", "backbone": "none", "encoder": "backbone"}  # what freezes one part less


def with_frozen(recipe: Recipe, freeze: str | None) -> Recipe:
    """Return the recipe with this part frozen in all stages, if one is named.

    Raises ConfigError for a part that cannot be frozen.
    """
    if freeze is None:
        return recipe
    stages: dict[str, TrainSettings | None] = {"train": recipe.train, "box_stage": recipe.box_stage}
    try:
        frozen = {
            name: each and TrainSettings.model_validate({**each.model_dump(), "freeze": freeze})
            for name, each in stages.items()
        }
    except ValueError:
        raise ConfigError(f"freeze {freeze}: choose stem, backbone, encoder or none") from None
    return recipe.model_copy(update=frozen)


def freeze(detector: Detector, settings: TrainSettings) -> None:
    """Freeze the parameters that `freeze` and `train_only` name.

    Raises ConfigError for a part that the model does not have.
    """
    if settings.train_only == "masks":
        _freeze_all_but_masks(detector)
    for name in PARTS[settings.freeze]:
        try:
            part = detector.get_submodule(name)
        except AttributeError:
            raise ConfigError(
                f"train.freeze = {settings.freeze}: {detector.card.preset} has no {name}; set "
                f"{FEWER[settings.freeze]}"
            ) from None
        part.requires_grad_(False)


def require_trained(settings: TrainSettings, weights: str | None) -> None:
    """Raise ConfigError if a part is to be frozen that starts from random weights.

    `weights` are the initial weights of a new run, as `initialize` takes them.
    """
    random = ("none", "imagenet", None) if settings.freeze == "encoder" else ("none",)
    if settings.freeze != "none" and weights in random:
        raise ConfigError(
            f"train.freeze = {settings.freeze}: it would stay random; name trained weights "
            "(--weights), or freeze none"
        )


def _freeze_all_but_masks(detector: Detector) -> None:
    if detector.mask_head is None:
        raise ConfigError(
            f"train.train_only = masks: {detector.card.preset} has no mask head; choose a model "
            "that has one, such as setmatch_n_panoptic"
        )
    detector.requires_grad_(False)
    detector.mask_head.requires_grad_(True)


def frozen_parts(detector: nn.Module, settings: TrainSettings) -> str:
    """Return in a sentence what `freeze` keeps of a detector in training mode; "" for nothing."""
    match settings.freeze:
        case "none":
            return ""
        case "stem":
            return "the stem of the backbone is frozen"
        case "backbone":
            frozen = "backbone is frozen"
        case "encoder":
            frozen = "backbone and encoder are frozen"
    parts = [detector.get_submodule(name) for name in PARTS[settings.freeze]]
    modules = [module for part in parts for module in part.modules()]
    if any(isinstance(module, NORMS) and module.training for module in modules):
        return f"{frozen}; batch norms there take the statistics of the new images"
    return frozen


def train_mode(detector: nn.Module, settings: TrainSettings) -> None:
    """Set a detector to training mode, but leave its frozen parts in evaluation mode.

    A mask head that is trained alone gets the features that it will get at inference: without
    dropout, and with fixed batch norm statistics. If a part is frozen for new data (`freeze`), its
    batch norms stay in training mode, so that their statistics become those of the new images.
    """
    detector.train()
    for child in detector.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            child.eval()
            if settings.freeze != "none":
                for module in child.modules():
                    module.training = isinstance(module, NORMS)
