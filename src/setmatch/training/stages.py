"""Training in two stages, as published: boxes first, then the mask head on the frozen detector.

The box stage is a run of its own in RUN/boxes, of the same model without its mask head. The mask
stage, in RUN, starts from its best weights (arXiv 2005.12872, section 4.4).
"""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from setmatch.config import Recipe, TrainSettings
from setmatch.errors import ConfigError, WeightsError, quoted
from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.models.registry import box_preset
from setmatch.structures.metadata import Categories

BOXES = "boxes"
BOX_STAGE_FRACTION = 2 / 3  # of the minutes of a time-based run


def boxes_run(run: Path) -> Path:
    """Return the folder of the box stage of `run`."""
    return run / BOXES


def box_stage_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of the box stage alone."""
    assert recipe.box_stage is not None, "the recipe has a box stage"
    preset = recipe.model.preset
    model = recipe.model.model_copy(update={"preset": box_preset(preset) or preset})
    return recipe.model_copy(update={"model": model, "train": recipe.box_stage, "box_stage": None})


def joint_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe that trains boxes and masks together, with the length of the box stage."""
    train = recipe.box_stage or recipe.train
    return recipe.model_copy(
        update={"train": train.model_copy(update={"train_only": "all"}), "box_stage": None}
    )


def single_stage_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe without its box stage."""
    return recipe.model_copy(update={"box_stage": None})


def with_length(recipe: Recipe, epochs: int | None, minutes: float | int | None) -> Recipe:
    """Return the recipe with the length that is given, if any.

    `epochs` sets the box stage; the mask stage scales with it. Of `minutes`, the box stage gets two
    thirds. Raises ConfigError if both are given, and for a length that is not above 0.
    """
    if epochs is not None and minutes is not None:
        raise ConfigError("epochs and minutes are both given: give only the one that ends the run")
    last, first = recipe.train, recipe.box_stage
    if minutes is not None and not minutes > 0:  # 0 in a recipe means that epochs set the length
        raise _invalid_length("minutes", minutes)
    if minutes is not None:
        fraction = BOX_STAGE_FRACTION if first else 0.0
        last = _changed(last, {"minutes": (1 - fraction) * minutes})
        first = first and _changed(first, {"minutes": fraction * minutes})
    elif epochs is not None:
        last_epochs = max(1, round(epochs * last.epochs / first.epochs)) if first else epochs
        last = _changed(last, {"epochs": last_epochs, "minutes": 0.0})
        first = first and _changed(first, {"epochs": epochs, "minutes": 0.0})
    return recipe.model_copy(update={"train": last, "box_stage": first})


def _changed(settings: TrainSettings, changes: Mapping[str, float | int]) -> TrainSettings:
    try:
        return TrainSettings.model_validate({**settings.model_dump(), **changes})
    except ValueError:
        raise _invalid_length(*next(iter(changes.items()))) from None


def _invalid_length(name: str, value: float | int) -> ConfigError:
    return ConfigError(f"--{name} {value:g}: expected a number above 0")


def needs_boxes(recipe: Recipe, source: str | Path | None, categories: Categories) -> bool:
    """Return whether the run starts with the box stage.

    It does not if the weights `source` know all `categories`. Raises ConfigError or WeightsError if
    only the mask head is to be trained, on a detector that does not know every class.
    """
    masks_only = recipe.train.train_only == "masks"
    if recipe.box_stage is None and not masks_only:
        return False
    if source in (None, "imagenet", "none"):
        if masks_only and recipe.box_stage is None:
            raise ConfigError(
                "train.train_only = masks trains only the mask head: name trained weights "
                "(--weights), or add a 'box_stage' section to the recipe"
            )
        return recipe.box_stage is not None
    known = weights.read(str(source)).card.categories
    unknown = [name for name in categories.names if name not in known.names]
    if masks_only and unknown and recipe.box_stage is None:
        raise WeightsError(
            f"{source}: does not know the classes {quoted(unknown, 5)}, and stays frozen "
            "while the mask head is trained; train its boxes first"
        )
    return recipe.box_stage is not None and bool(unknown)


def freeze_all_but_masks(detector: Detector) -> None:
    """Freeze every parameter outside the mask head; raise ConfigError if there is none."""
    if detector.mask_head is None:
        raise ConfigError(
            f"train.train_only = masks: {detector.card.preset} has no mask head; choose a model "
            "that has one, such as setmatch_n_panoptic"
        )
    detector.requires_grad_(False)
    detector.mask_head.requires_grad_(True)


def train_mode(detector: nn.Module) -> None:
    """Set a detector to training mode, but leave its frozen parts in evaluation mode.

    The mask head then gets the features it will get at inference: without dropout, and with fixed
    batch norm statistics.
    """
    detector.train()
    for child in detector.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            child.eval()
