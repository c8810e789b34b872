"""The length of a run: as it is given, or as it fits the number of images."""

from collections.abc import Mapping

from setmatch.config import Recipe, TrainSettings
from setmatch.data.audit.recommend.num_epochs import epochs_for, epochs_per_evaluation
from setmatch.errors import ConfigError

BOX_STAGE_FRACTION = 2 / 3  # of the minutes of a time-based run


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
