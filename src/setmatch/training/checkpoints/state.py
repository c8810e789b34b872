"""What a checkpoint holds, and how a run goes on from it bit for bit.

The position in the schedule and in the data, and the random state of every step, are functions of
the step alone (plan.py, data/order.py), so that the step is all there is to save of them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from setmatch.config import Recipe, load_recipe
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import ConfigError, TrainingError
from setmatch.models import load as weights
from setmatch.training.checkpoints.checkpoint import Checkpoint, write_checkpoint
from setmatch.training.logging.step_metrics import SkippedSteps
from setmatch.training.step import TrainStep

TRAINER = "trainer.pt"
HARMLESS = ("data.workers",)  # settings that change nothing but speed
# What the tensors of a checkpoint are of: no run can change it on its way.
LASTING = ("data.classes", "recipe.model.preset", "recipe.model.arguments.")


@dataclass(frozen=True)
class Progress:
    """How far a run is beside its steps."""

    skips: SkippedSteps = field(default_factory=SkippedSteps)
    spent_s: float = 0.0
    evaluation_due: bool = False  # after the last step
    evaluating_s: float = 0.0  # of the time spent, by the clock


def save_state(
    run: Path,
    learner: TrainStep,
    step: int,
    progress: Progress,
    facts: Mapping[str, Any],
    keep: int,
) -> None:
    """Write the checkpoint after `step` steps: the weights to answer with, and trainer.pt.

    trainer.pt holds tensors and plain values only, so that the safe loader reads it. Raises
    TrainingError when it cannot be written.
    """
    average = learner.average
    state = {
        "model": learner.detector.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "average_updates": None if average is None else average.updates,
        "progress": dataclasses.asdict(progress),
    }

    def fill(folder: Path) -> None:
        weights.save(learner.answers, folder)
        torch.save(state, folder / TRAINER)

    write_checkpoint(run, step, fill, facts, keep)


def restore_state(checkpoint: Checkpoint, learner: TrainStep) -> Progress:
    """Fill a learner, whose detector was loaded from `checkpoint`, with the rest of its state.

    Learning rates and weight decay stay as the learner has them. Raises TrainingError when
    trainer.pt is of another model.
    """
    path = checkpoint.folder / TRAINER
    device = learner.runtime.device
    state = torch.load(path, map_location=device, weights_only=True)
    try:
        learner.detector.load_state_dict(state["model"])
        learner.optimizer.load_state_dict(state["optimizer"])
        told = state["progress"]
        progress = Progress(**{**told, "skips": SkippedSteps(**told["skips"])})
        updates = state["average_updates"]
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(f"{path}: not the state of this run ({error})") from None
    if learner.average is not None and updates is not None:
        learner.average.updates.copy_(updates)
    return progress


def facts_of(recipe: Recipe, training: DetectionDataset) -> dict[str, Any]:
    """Return what a run must have in common with the one it goes on from."""
    class_indices = zip(training.categories.ids, training.categories.names, strict=True)
    return {
        "recipe": recipe.model_dump(by_alias=True),
        "data": {
            "images": len(training),
            "annotations": len(training.annotation_ids),
            "classes": [f"{name} ({id_})" for id_, name in class_indices],
        },
    }


def refuse_changes(checkpoint: Checkpoint, facts: Mapping[str, Any], allowed: bool) -> None:
    """Raise ConfigError that shows what differs from the run that `checkpoint` belongs to.

    Where changes are `allowed`, only for another model and for other classes.
    """
    told = {key: checkpoint.facts.get(key) for key in facts}
    # Settings that an older version did not have were what their defaults are.
    told["recipe"] = load_recipe(told["recipe"]).model_dump(by_alias=True)
    old = _flat(told)
    new = _flat(facts)
    differences = {
        key: f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and key.removeprefix("recipe.") not in HARMLESS
    }
    lasting = {key: way for key, way in differences.items() if key.startswith(LASTING)}
    refused = lasting if allowed else differences
    if not refused:
        return
    advice = "resume with the same settings and data, allow the changes, or start in another folder"
    if lasting:
        run = checkpoint.folder.parents[1]
        advice = (
            "no run changes its model or its classes on the way: resume with the same, or start in "
            f"another folder from what this one has learned (--weights {run})"
        )
    raise ConfigError(
        f"{checkpoint.folder}: the run went another way: {'; '.join(refused.values())}; {advice}"
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
