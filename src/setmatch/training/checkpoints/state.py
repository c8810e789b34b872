"""The state in a checkpoint, from which a run resumes bit for bit.

The position in the schedule and in the data, and the random state of every step, are functions of
the step (schedule.py, data/sampler.py), so only the step is saved of them.
"""

import dataclasses
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from setmatch.config import Recipe
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import ConfigError, TrainingError, WeightsError
from setmatch.models import load as weights
from setmatch.models.weights.tensor_files import read_pickle
from setmatch.recipe_text import load_recipe
from setmatch.training.checkpoints.checkpoint import Checkpoint, write_checkpoint
from setmatch.training.logging.step_metrics import SkippedSteps
from setmatch.training.step import TrainStep

TRAINER = "trainer.pt"
IGNORED = ("data.workers", "data.keep_decoded_mb")  # settings that change nothing but speed
# The tensors of a checkpoint depend on these: no run can change them.
FIXED = ("data.classes", "recipe.model.preset", "recipe.model.arguments.")


@dataclass(frozen=True)
class Progress:
    """The progress of a run besides its number of steps."""

    skips: SkippedSteps = field(default_factory=SkippedSteps)
    spent_s: float = 0.0
    evaluation_due: bool = False  # after the last step
    evaluating_s: float = 0.0  # the part of spent_s that evaluations took


def save_state(
    run: Path,
    train_step: TrainStep,
    step: int,
    progress: Progress,
    facts: Mapping[str, Any],
    keep: int,
    spared: Set[int] = frozenset(),
) -> None:
    """Write the checkpoint after `step` steps: the weights for inference, and trainer.pt.

    Of the earlier ones, the newest `keep` and those after the steps `spared` stay.
    trainer.pt has tensors and plain values only, so that the safe loader reads it. Raises
    TrainingError if the checkpoint cannot be written.
    """
    ema = train_step.ema
    state = {
        "model": train_step.detector.state_dict(),
        "optimizer": train_step.optimizer.state_dict(train_step.detector),
        "average_updates": None if ema is None else ema.updates,
        "progress": dataclasses.asdict(progress),
    }

    def fill(folder: Path) -> None:
        weights.save(train_step.inference_model, folder)
        torch.save(state, folder / TRAINER)

    write_checkpoint(run, step, fill, facts, keep, spared)


def restore_state(checkpoint: Checkpoint, train_step: TrainStep) -> Progress:
    """Restore the state of `train_step`, whose detector was loaded from `checkpoint`.

    Learning rates and weight decay stay those of `train_step`. Raises TrainingError if trainer.pt
    belongs to another model, or would run code.
    """
    path = checkpoint.folder / TRAINER
    device = train_step.distributed.device
    try:
        state = read_pickle(path, device)
    except WeightsError as error:
        raise TrainingError(str(error)) from None
    try:
        train_step.detector.load_state_dict(state["model"])
        train_step.optimizer.load_state_dict(state["optimizer"], train_step.detector)
        saved = state["progress"]
        progress = Progress(**{**saved, "skips": SkippedSteps(**saved["skips"])})
        updates = state["average_updates"]
    except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(f"{path}: not the state of this run ({error})") from None
    if train_step.ema is not None and updates is not None:
        train_step.ema.updates.copy_(updates)
    return progress


def return_to(checkpoint: Checkpoint, train_step: TrainStep) -> None:
    """Set a running train step back to the weights, average and moments of `checkpoint`."""
    train_step.inference_model.load_state_dict(weights.read(checkpoint.folder).state)
    restore_state(checkpoint, train_step)


def facts_of(recipe: Recipe, training: DetectionDataset) -> dict[str, Any]:
    """Return what a resumed run must have in common with the run it resumes."""
    classes = zip(training.categories.ids, training.categories.names, strict=True)
    return {
        "recipe": recipe.model_dump(by_alias=True),
        "data": {
            "images": len(training),
            "annotations": len(training.annotation_ids),
            "classes": [f"{name} ({id_})" for id_, name in classes],
        },
    }


def refuse_changes(checkpoint: Checkpoint, facts: Mapping[str, Any], allowed: bool) -> None:
    """Raise ConfigError that lists what differs from the run of `checkpoint`.

    If changes are `allowed`, only another model or other classes raise.
    """
    saved = {key: checkpoint.facts.get(key) for key in facts}
    # A setting that an older version did not have had the effect of its default.
    saved["recipe"] = load_recipe(saved["recipe"]).model_dump(by_alias=True)
    old = _flat(saved)
    new = _flat(facts)
    differences = {
        key: f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and key.removeprefix("recipe.") not in IGNORED
    }
    fixed = {key: change for key, change in differences.items() if key.startswith(FIXED)}
    refused = fixed if allowed else differences
    if not refused:
        return
    advice = (
        "resume with the same settings and data, allow the changes (--allow-changes), or start in "
        "another folder"
    )
    if fixed:
        run = checkpoint.folder.parents[1]
        advice = (
            "a run cannot change its model or classes: resume with the same, or start in another "
            f"folder from the weights of this run (--weights {run})"
        )
    raise ConfigError(
        f"{checkpoint.folder}: the run was started differently: {'; '.join(refused.values())}; "
        f"{advice}"
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
