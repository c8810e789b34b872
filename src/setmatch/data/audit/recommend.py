"""A plan to train on a data set: a recipe, what to start from, and a sentence for each choice.

The rules are rules of thumb, said with the fact they follow from; nothing here is a promise.
"""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from setmatch.config import Recipe, load_recipe
from setmatch.data.audit.image_size import (
    LONG_TO_SHORT,
    SIDES_PX,
    legible_side_px,
    preprocessing_of,
    seen_px,
    smallest_px,
)
from setmatch.data.audit.num_queries import queries_for, usual_objects
from setmatch.data.audit.statistics import SMALL_PX
from setmatch.data.dataset import DetectionDataset
from setmatch.structures.metadata import Preprocessing

# Presets by name: models are none of this layer's business.
FINE_TUNED, FINE_TUNED_DENSE, SMALL = "detr_r50", "detr_r50_dc5", "setmatch_n"
WITH_MASKS = {
    FINE_TUNED: "detr_r50_panoptic",
    FINE_TUNED_DENSE: "detr_r50_dc5_panoptic",
    SMALL: "setmatch_n_panoptic",
}
PUBLISHED_QUERIES = 100
_SMALL_MODEL_SIDES_PX = (*SIDES_PX, 480)  # more than in a run of minutes: epochs end a planned one
_MANY_SMALL = 1 / 3
# Fine-tuning the published method, and the fast-converging family, even from nothing: LOG.md has
# runs of the latter that reached most of their AP within 500.
_STEPS, _STEPS_OF_SMALL = 4000, 1000
_EPOCHS = (12, 300)
_EVALUATIONS = 30
_ALWAYS_SAID = (  # in a written plan, even where they are the defaults
    *(("train", "lr"), ("train", "batch_size"), ("train", "epochs")),
    *(("data", "long_side_px"), ("data", "short_side_px"), ("model", "preset")),
)


@dataclass(frozen=True)
class TrainingPlan:
    """What to train, from which weights (a name for --weights), and why."""

    recipe: Recipe
    weights: str
    reasons: tuple[str, ...]
    images: int
    seconds_per_step: float | None = None  # only where it was measured

    @property
    def num_queries(self) -> int:
        """Return how many boxes the planned model answers with."""
        return int(self.recipe.model.arguments["num_queries"])

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how large the planned model sees pictures."""
        return preprocessing_of(self.recipe.data)

    @property
    def steps(self) -> int:
        """Return how many optimizer steps the recipe takes."""
        settings = self.recipe.train
        return math.ceil(settings.epochs * self.images / settings.batch_size)

    @property
    def hours(self) -> float | None:
        """Return how long all steps take, without evaluations; None where it was not measured."""
        return None if self.seconds_per_step is None else self.seconds_per_step * self.steps / 3600

    def timed(self, seconds_per_step: float) -> "TrainingPlan":
        """Return the same plan with the measured time of a step."""
        return replace(self, seconds_per_step=seconds_per_step)

    def to_yaml(self) -> str:
        """Return the recipe as YAML that `setmatch train --recipe` reads: what is not default."""
        chosen = self.recipe.model_dump(by_alias=True)
        tree = _differences(chosen, Recipe().model_dump(by_alias=True))
        for section, key in _ALWAYS_SAID:
            tree[section] = {key: chosen[section][key], **tree.get(section, {})}
        head = f"# Planned by setmatch audit; start from --weights {self.weights}."
        return f"{head}\n{yaml.safe_dump(tree, sort_keys=False)}"

    def command(self, data: str | Path, recipe: str | Path, format: str | None = None) -> str:
        """Return the command line that follows the plan, once its recipe is in a file."""
        words = ["setmatch", "train", str(data), "--recipe", str(recipe)]
        words += ["--weights", self.weights, "--out", "runs/first"]
        return shlex.join(words if format is None else [*words, "--format", format])


def recommend(training: DetectionDataset, has_gpu: bool) -> TrainingPlan:
    """Choose a model and its recipe for a training split, from its index alone.

    With a GPU published weights are fine-tuned; without one a small model learns by its own recipe.
    Where every pixel is annotated, the model has masks.
    """
    overrides, weights, reasons = (_fine_tuning if has_gpu else _learning)(training)
    usual = usual_objects(training)
    # Published queries are worth more than a few fresh ones beside them.
    enough = has_gpu and usual <= PUBLISHED_QUERIES
    queries = PUBLISHED_QUERIES if enough else queries_for(training)
    batch = overrides["train.batch_size"]
    wanted = _STEPS if has_gpu else _STEPS_OF_SMALL
    epochs = min(max(math.ceil(wanted * batch / max(len(training), 1)), _EPOCHS[0]), _EPOCHS[1])
    drop = {"train.drop_epoch": round(0.8 * epochs)} if has_gpu else {}
    settings = {
        **overrides,
        **drop,
        "model.arguments.num_queries": queries,
        "train.epochs": epochs,
        "train.evaluate_every": max(epochs // _EVALUATIONS, 1),
    }
    recipe = load_recipe(
        "finetune" if has_gpu else _fit(SMALL, training),  # which has a recipe of its name
        [f"{key}={value}" for key, value in settings.items()],
    )
    plan = TrainingPlan(recipe, weights, (), len(training))
    few = f"; {len(training)} images are few, so expect it to learn them by heart" * (
        epochs == _EPOCHS[1]
    )
    reasons += [
        f"{queries} queries: nearly all images have at most {usual} objects, "
        "and some slots are to stay silent",
        f"{epochs} epochs in batches of {batch}: {plan.steps:,} steps, where {wanted:,} are usual"
        f"{few}",
        f"learning rate {recipe.train.lr:g}, as in the recipe it is based on",
    ]
    return replace(plan, reasons=tuple(reasons))


def _fine_tuning(training: DetectionDataset) -> tuple[dict[str, Any], str, list[str]]:
    short_px = float(np.median(training.sizes_px.min(axis=1)))
    large = short_px >= 400
    seen = Preprocessing() if large else Preprocessing(480, 800)
    sides_px = seen_px(training, seen)
    small = (sides_px < SMALL_PX).sum() / max(len(sides_px), 1)
    preset = _fit(FINE_TUNED_DENSE if small > _MANY_SMALL else FINE_TUNED, training)
    why = f"{small:.0%} of the objects are small at this resolution"
    reasons = [
        f"{preset}, fine-tuned from its published weights: {why}",
        f"short side {seen.short_side_px} px, half of the images having {short_px:.0f} px or more"
        + (", as it was published" if large else ", the least that it was published for"),
    ]
    settings = {
        "model.preset": preset,
        "data.short_side_px": seen.short_side_px,
        "data.long_side_px": seen.long_side_px,
        "train.batch_size": 16 if len(training) >= 1000 else 8,
    }
    return settings, preset, reasons


def _learning(training: DetectionDataset) -> tuple[dict[str, Any], str, list[str]]:
    short_px = legible_side_px(training, _SMALL_MODEL_SIDES_PX)
    preset = _fit(SMALL, training)
    weights = load_recipe(preset).model.init_weights or "none"
    start = "random weights" if weights == "none" else f"{weights}, weights that come along"
    reasons = [
        f"{preset} from {start}, because there is no GPU here; on a machine with one "
        f"the plan is to fine-tune {_fit(FINE_TUNED, training)}, which has learned from COCO's "
        "photographs",
        f"short side {short_px} px: nine of ten objects are then larger than "
        f"{smallest_px(training, short_px):.0f} px",
    ]
    settings = {
        "model.preset": preset,
        "data.short_side_px": short_px,
        "data.long_side_px": LONG_TO_SHORT * short_px,
        "train.batch_size": 16,
    }
    return settings, weights, reasons


def _fit(preset: str, training: DetectionDataset) -> str:
    """Return the preset, or the same with masks where the data show what every pixel is."""
    return preset if training.panoptic is None else WITH_MASKS[preset]


def _differences(tree: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a recipe's tree that differs from the defaults' tree."""
    changed: dict[str, Any] = {}
    for key, value in tree.items():
        other = default.get(key)
        if value == other:
            continue
        nested = isinstance(value, Mapping) and isinstance(other, Mapping)
        changed[key] = _differences(value, other) if nested else value  # type: ignore[arg-type]
    return changed
