"""The recommended training plan: a recipe, initial weights, and a reason for each choice.

The rules are rules of thumb; each reason names the number that a choice follows from.
"""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from setmatch.config import Recipe
from setmatch.data.audit.recommend.image_size import (
    LONG_TO_SHORT,
    SIDES_PX,
    legible_side_px,
    preprocessing_of,
    resized_object_px,
    smallest_px,
)
from setmatch.data.audit.recommend.num_epochs import MOST as MOST_EPOCHS
from setmatch.data.audit.recommend.num_epochs import epochs_for, epochs_per_evaluation
from setmatch.data.audit.recommend.num_queries import queries_for, usual_objects
from setmatch.data.audit.recommend.tiles import needs_tiles, specks
from setmatch.data.audit.statistics import SMALL_PX
from setmatch.data.batches.random_tile import SPECK_PX, tile_of
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import counted
from setmatch.recipe_text import load_recipe
from setmatch.setting_values import TileSide
from setmatch.structures.metadata import Preprocessing

# Presets by name: data and models do not import each other.
FINE_TUNED, FINE_TUNED_DENSE, SMALL = "detr_r50", "detr_r50_dc5", "setmatch_n"
_WITH_MASKS = {
    FINE_TUNED: "detr_r50_panoptic",
    FINE_TUNED_DENSE: "detr_r50_dc5_panoptic",
    SMALL: "setmatch_n_panoptic",
}
PUBLISHED_QUERIES = 100
# A plan ends by epochs, not minutes, so it can afford a larger size than SIDES_PX.
_SMALL_MODEL_SIDES_PX = (*SIDES_PX, 480)
_MANY_SMALL = 1 / 3  # fraction of small objects from which the dilated model pays off
# Optimizer steps for fine-tuning DETR, and for the small model, which converges faster: in LOG.md
# it reaches most of its AP within 500 steps, even from random weights.
_FINE_TUNING_STEPS, _SMALL_MODEL_STEPS = 4000, 1000
_ALWAYS_WRITTEN = (  # to the plan's recipe, even where they are the defaults
    *(("train", "lr"), ("train", "batch_size"), ("train", "epochs")),
    *(("data", "long_side_px"), ("data", "short_side_px"), ("model", "preset")),
)


@dataclass(frozen=True)
class TrainingPlan:
    """A recipe, the weights to start from (a name for --weights), and the reasons."""

    recipe: Recipe
    weights: str
    reasons: tuple[str, ...]
    images: int
    seconds_per_step: float | None = None  # None if it was not measured

    @property
    def num_queries(self) -> int:
        """Return the number of object queries of the planned model."""
        num_queries = self.recipe.model.arguments["num_queries"]
        assert isinstance(num_queries, int), "the plan chose it"
        return num_queries

    @property
    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing of the planned model."""
        return preprocessing_of(self.recipe.data)

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps of the recipe."""
        settings = self.recipe.train
        return math.ceil(settings.num_epochs * self.images / settings.batch_size)

    @property
    def hours(self) -> float | None:
        """Return the duration of all steps, without evaluations; None if it was not measured."""
        return None if self.seconds_per_step is None else self.seconds_per_step * self.steps / 3600

    def timed(self, seconds_per_step: float) -> "TrainingPlan":
        """Return the plan with the measured duration of a step."""
        return replace(self, seconds_per_step=seconds_per_step)

    def to_yaml(self) -> str:
        """Return the recipe as YAML for `setmatch train --recipe`, without most defaults."""
        chosen = self.recipe.model_dump(by_alias=True)
        tree = _differences(chosen, Recipe().model_dump(by_alias=True))
        for section, key in _ALWAYS_WRITTEN:
            tree[section] = {key: chosen[section][key], **tree.get(section, {})}
        head = f"# Recommended by setmatch audit; train with --weights {self.weights}."
        return f"{head}\n{yaml.safe_dump(tree, sort_keys=False)}"

    def command(
        self,
        data: str | Path,
        recipe: str | Path,
        format: str | None = None,
        boxes: str | None = None,
    ) -> str:
        """Return the command that trains by the plan, with its recipe in the file `recipe`."""
        words = ["setmatch", "train", str(data), "--recipe", str(recipe)]
        words += ["--weights", self.weights, "--out", "runs/first"]
        words += [] if format is None else ["--format", format]
        return shlex.join(words if boxes is None else [*words, "--boxes", boxes])


def recommend(training: DetectionDataset, has_gpu: bool) -> TrainingPlan:
    """Choose a model and a recipe for a training split, from its annotations alone.

    With a GPU, published weights are fine-tuned; without one, a small model is trained by its own
    recipe. For panoptic data the model has masks.
    """
    overrides, weights, reasons = (_fine_tuning if has_gpu else _small_model)(training)
    preprocessing = Preprocessing(overrides["data.short_side_px"], overrides["data.long_side_px"])
    tiles: TileSide = "auto" if needs_tiles(training, preprocessing) else None
    tile = tile_of(tiles, preprocessing)
    usual = usual_objects(training, tile)
    # Keep the trained queries if they suffice: they are worth more than a few new ones.
    enough = has_gpu and usual <= PUBLISHED_QUERIES
    queries = PUBLISHED_QUERIES if enough else queries_for(training, tile)
    batch = overrides["train.batch_size"]
    steps = _FINE_TUNING_STEPS if has_gpu else _SMALL_MODEL_STEPS
    epochs = epochs_for(len(training), batch, steps)
    drop = {"train.drop_epoch": round(0.8 * epochs)} if has_gpu else {}
    settings = {
        **overrides,
        **drop,
        "model.arguments.num_queries": queries,
        "train.epochs": epochs,
        "train.evaluate_every": epochs_per_evaluation(epochs),
        "data.tiles": tiles or "null",
    }
    base = "finetune" if has_gpu else _matching_preset(SMALL, training)  # has a recipe of its name
    flipped_only = load_recipe(base).data.strong_augment_from_epoch >= epochs
    if flipped_only:  # the augmentation of the recipe would begin after the end
        settings |= {"data.augment": "flip", "data.strong_augment_from_epoch": 0}
    recipe = load_recipe(base, [f"{key}={value}" for key, value in settings.items()])
    views = "images" if tile is None else "images and tiles"
    if tile is not None:
        fraction = specks(training, preprocessing).mean()
        reasons.append(
            f"tiles of {tile.side_px} px: {fraction:.0%} of the objects are smaller than "
            f"{SPECK_PX} px when the whole image is resized; evaluate and predict with --tiles auto"
        )
    plan = TrainingPlan(recipe, weights, (), len(training))
    few = f"; expect overfitting with only {counted(len(training), 'image')}" * (
        epochs == MOST_EPOCHS
    )
    reasons += [
        f"{queries} queries: nearly all {views} have at most {usual} objects"
        f"{' that are not specks' if tile else ''}, and some queries must be left for "
        '"no object"',
        f"{epochs} epochs with batch size {batch}: {plan.steps:,} steps; {steps:,} are usual{few}",
        f"learning rate {recipe.train.lr:g}: that of the recipe it is based on",
    ]
    if flipped_only:
        reasons.append(
            f"images are only flipped: {epochs} epochs show each image too rarely for more"
        )
    return replace(plan, reasons=tuple(reasons))


def _fine_tuning(training: DetectionDataset) -> tuple[dict[str, Any], str, list[str]]:
    short_px = float(np.median(training.sizes_px.min(axis=1)))
    large = short_px >= 400
    preprocessing = Preprocessing() if large else Preprocessing(480, 800)
    sides_px = resized_object_px(training, preprocessing)
    small = (sides_px < SMALL_PX).sum() / max(len(sides_px), 1)
    preset = _matching_preset(FINE_TUNED_DENSE if small > _MANY_SMALL else FINE_TUNED, training)
    reasons = [
        f"{preset}, fine-tuned from its published weights: {small:.0%} of the objects are smaller "
        f"than {SMALL_PX} px at this image size",
        f"image size (short side) {preprocessing.short_side_px} px: "
        + ("that of" if large else "the smallest in")
        + f" the published training; the median image has {short_px:.0f} px",
    ]
    settings = {
        "model.preset": preset,
        "data.short_side_px": preprocessing.short_side_px,
        "data.long_side_px": preprocessing.long_side_px,
        "train.batch_size": 16 if len(training) >= 1000 else 8,
    }
    return settings, preset, reasons


def _small_model(training: DetectionDataset) -> tuple[dict[str, Any], str, list[str]]:
    short_px = legible_side_px(training, _SMALL_MODEL_SIDES_PX)
    preset = _matching_preset(SMALL, training)
    weights = load_recipe(preset).model.init_weights or "none"
    bundled = f"{weights} (comes with setmatch)"
    start = "random weights" if weights == "none" else bundled
    reasons = [
        f"{preset} from {start}, because this machine has no GPU; on a machine with one, fine-tune "
        f"{_matching_preset(FINE_TUNED, training)}, which was trained on COCO",
        f"image size (short side) {short_px} px: 90% of the objects are then larger than "
        f"{smallest_px(training, short_px):.0f} px",
    ]
    settings = {
        "model.preset": preset,
        "data.short_side_px": short_px,
        "data.long_side_px": LONG_TO_SHORT * short_px,
        "train.batch_size": 16,
    }
    return settings, weights, reasons


def _matching_preset(preset: str, training: DetectionDataset) -> str:
    """Return the preset, or its version with masks for panoptic data."""
    return preset if training.panoptic is None else _WITH_MASKS[preset]


def _differences(tree: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a nested recipe that differs from the defaults."""
    changed: dict[str, Any] = {}
    for key, value in tree.items():
        other = default.get(key)
        if value == other:
            continue
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            changed[key] = _differences(value, other)
        else:
            changed[key] = value
    return changed
