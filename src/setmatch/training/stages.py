"""Training in two stages, as published: boxes first, then the mask head on the frozen detector.

The first stage is a run of its own in RUN/boxes, of the same detector without its mask head; its
best weights are what the second, in RUN, starts from.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from setmatch.config import Recipe, TrainSettings
from setmatch.errors import ConfigError, WeightsError
from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.models.registry import box_preset
from setmatch.structures.metadata import Categories

BOXES = "boxes"
BOXES_SHARE = 2 / 3  # of the minutes of a run by the clock


def boxes_run(run: Path) -> Path:
    """Return the folder of the first stage of `run`."""
    return run / BOXES


def box_stage_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of the first stage of a recipe that has two."""
    assert recipe.box_stage is not None, "there is a stage before"
    preset = recipe.model.preset
    model = recipe.model.model_copy(update={"preset": box_preset(preset) or preset})
    return recipe.model_copy(update={"model": model, "train": recipe.box_stage, "box_stage": None})


def joint_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe that trains boxes and masks at once, for as long as it would boxes."""
    train = recipe.box_stage or recipe.train
    return recipe.model_copy(
        update={"train": train.model_copy(update={"train_only": "all"}), "box_stage": None}
    )


def single_stage_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe without the stage before: all of its length is that of its last."""
    return recipe.model_copy(update={"box_stage": None})


def with_length(recipe: Recipe, epochs: int | None, minutes: float | int | None) -> Recipe:
    """Return the recipe with another length, where one is given.

    Of two stages `epochs` are those of the boxes, and the masks' change in proportion; of `minutes`
    the boxes take two thirds. Raises ConfigError if both are given, and for a length that is no
    number above 0.
    """
    if epochs is not None and minutes is not None:
        raise ConfigError("epochs and minutes are both given: give only the one that ends the run")
    last, first = recipe.train, recipe.box_stage
    if minutes is not None and not minutes > 0:  # in a recipe 0 says that epochs count
        raise _no_length("minutes", minutes)
    if minutes is not None:
        share = BOXES_SHARE if first else 0.0
        last = _changed(last, {"minutes": (1 - share) * minutes})
        first = first and _changed(first, {"minutes": share * minutes})
    elif epochs is not None:
        later = max(1, round(epochs * last.epochs / first.epochs)) if first else epochs
        last = _changed(last, {"epochs": later, "minutes": 0.0})
        first = first and _changed(first, {"epochs": epochs, "minutes": 0.0})
    return recipe.model_copy(update={"train": last, "box_stage": first})


def _changed(settings: TrainSettings, changes: Mapping[str, float | int]) -> TrainSettings:
    try:
        return TrainSettings.model_validate({**settings.model_dump(), **changes})
    except ValueError:
        raise _no_length(*next(iter(changes.items()))) from None


def _no_length(name: str, value: float | int) -> ConfigError:
    return ConfigError(f"--{name} {value:g}: expected a number above 0")


def needs_boxes(
    recipe: Recipe, source: str | Path | None, classes: Callable[[], Categories]
) -> bool:
    """Say whether boxes are to be trained before: not where weights know every class already.

    `classes` tells those of the data, where they matter. Raises ConfigError or WeightsError when
    the mask head is to be trained on a detector that does not answer for them: frozen, it never
    would.
    """
    masks_alone = recipe.train.train_only == "masks"
    if recipe.box_stage is None and not masks_alone:
        return False
    if source in (None, "imagenet", "none"):
        if masks_alone and recipe.box_stage is None:
            raise ConfigError(
                "train.train_only = masks trains only the mask head: name a detector by --weights, "
                "or the settings of the stage before under 'box_stage'"
            )
        return recipe.box_stage is not None
    known = weights.read(str(source)).card.categories
    strangers = [name for name in classes().names if name not in known.names]
    if masks_alone and strangers and recipe.box_stage is None:
        raise WeightsError(
            f"{source}: does not know {', '.join(map(str, strangers[:5]))}, and stays frozen while "
            "the mask head is trained; train its boxes first"
        )
    return recipe.box_stage is not None and bool(strangers)


def freeze_all_but_masks(detector: Detector) -> None:
    """Leave nothing but the mask head to be trained.

    Raises ConfigError for a detector that has none.
    """
    if detector.mask_head is None:
        raise ConfigError(
            f"train.train_only = masks: {detector.card.preset} has no mask head; take a model "
            "that has one, such as setmatch_n_panoptic"
        )
    detector.requires_grad_(False)
    detector.mask_head.requires_grad_(True)


def train_mode(detector: nn.Module) -> None:
    """Put a detector into training mode, but leave parts that learn nothing as they answer.

    So a frozen detector gives the mask head what it will give when it is used: no dropout, and
    batch norms that stay as they are.
    """
    detector.train()
    for part in detector.children():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()
