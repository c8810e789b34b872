"""Training in two stages, as published: boxes first, then the mask head on the frozen detector.

The box stage is a run of its own in RUN/boxes, of the same model without its mask head. The mask
stage, in RUN, starts from its best weights (arXiv 2005.12872, section 4.4).
"""

from pathlib import Path

from setmatch.config import Recipe
from setmatch.errors import ConfigError, WeightsError, quoted
from setmatch.models import load as weights
from setmatch.models.registry import box_preset
from setmatch.structures.metadata import Categories

BOXES = "boxes"


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
