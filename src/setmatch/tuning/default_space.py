"""What is searched unless the user says otherwise: around the values of the recipe."""

from setmatch.config import DataSettings, Recipe
from setmatch.setting_values import MIN_SIDE_PX
from setmatch.training.recipe_variants import sketch
from setmatch.tuning.space import Choice, Range, Space, Value

_RATE, _DECAY, _SIDES = 4, 10, (0.75, 1.25)  # factors around the recipe's values
_NO_DECAY = Range(1e-5, 0.1, log=True)
_SIDE_STEP_PX = 32
_AUGMENTATIONS = ("small", "flip", "detr")


def default_space(recipe: Recipe, sides: DataSettings) -> Space:
    """Return learning rates, weight decay, augmentation and image size, around the recipe's.

    Rates of groups of parameters that the model does not have are left out. `sides` are the
    recipe's settings of data with numbers for "auto".
    """
    train, groups = recipe.train, sketch(recipe.model).parameter_groups()
    rates = {"lr": train.lr}
    if groups.get("matrices"):
        rates["muon_lr"] = train.muon_lr
    if groups.get("backbone") and train.freeze in ("none", "stem"):
        rates["backbone_lr"] = train.backbone_lr
    decay = _around(train.weight_decay, _DECAY) if train.weight_decay else _NO_DECAY
    augmentations: dict[Value, None] = dict.fromkeys([recipe.data.augment, *_AUGMENTATIONS])
    return {
        **{f"train.{name}": _around(rate, _RATE) for name, rate in rates.items() if rate},
        "train.weight_decay": decay,
        "data.augment": Choice(tuple(augmentations)),
        **_image_size(recipe.data, sides),
    }


def _around(value: float, factor: float) -> Range:
    return Range(float(f"{value / factor:.4g}"), float(f"{value * factor:.4g}"), log=True)


def _image_size(data: DataSettings, sides: DataSettings) -> Space:
    """Return the recipe's short side with those next to it; square images stay square."""
    short_px, long_px = sides.short_side_px, sides.long_side_px
    assert short_px != "auto", "resolve_image_size comes first"
    if data.short_side_px == "auto":
        known = sorted({short_px, *data.auto_sides_px})
        at = known.index(short_px)
        near = known[max(at - 1, 0) : at + 2]
    else:
        steps = (round(short_px * factor / _SIDE_STEP_PX) for factor in _SIDES)
        near = sorted({short_px, *(max(_SIDE_STEP_PX * step, MIN_SIDE_PX) for step in steps)})
    if len(near) < 2:
        return {}
    square = data.long_side_px != "auto" and short_px == long_px
    name = "data.short_side_px+data.long_side_px" if square else "data.short_side_px"
    return {name: Choice(tuple(near))}
