"""Training in two stages, as published: boxes first, then the mask head on the frozen detector.

The box stage is a run of its own in RUN/boxes, of the same model without its mask head. The mask
stage, in RUN, starts from its best weights (arXiv 2005.12872, section 4.4).
"""

from collections.abc import Mapping
from pathlib import Path

from setmatch.config import Recipe, TrainSettings
from setmatch.data.audit.recommend.num_epochs import epochs_for, epochs_per_evaluation
from setmatch.errors import ConfigError, WeightsError, quoted
from setmatch.models import load as weights
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
        last_epochs = epochs
        if first is not None:
            last_epochs = max(1, round(epochs * last.num_epochs / first.num_epochs))
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


def resolve_length(recipe: Recipe, images: int) -> Recipe:
    """Return the recipe with numbers of epochs that fit this many training images for "auto"."""
    stages = {
        name: settings and _with_epochs(settings, images)
        for name, settings in (("train", recipe.train), ("box_stage", recipe.box_stage))
    }
    return recipe.model_copy(update=stages)


def _with_epochs(settings: TrainSettings, images: int) -> TrainSettings:
    epochs, every = settings.epochs, settings.evaluate_every
    if epochs == "auto":
        epochs = epochs_for(images, settings.batch_size)
    if every == "auto":
        every = epochs_per_evaluation(epochs)
    return settings.model_copy(update={"epochs": epochs, "evaluate_every": every})


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
