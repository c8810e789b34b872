"""`setmatch train`: train a model on annotated images."""

from pathlib import Path
from typing import Literal

from setmatch.cli.options import (
    Data,
    Device,
    Format,
    Settings,
    Switch,
)
from setmatch.errors import ConfigError


def train(
    data: Data,
    /,
    *,
    out: Path,
    model: str | None = None,
    weights: str | None = None,
    recipe: str | None = None,
    set_: Settings = (),
    epochs: int | None = None,
    minutes: float | None = None,
    joint: Switch = False,
    task: Literal["panoptic", "instance"] | None = None,
    resume: Switch = False,
    allow_changes: Switch = False,
    device: Device = "auto",
    format: Format = None,
) -> None:
    """Train a model on annotated images.

    Parameters
    ----------
    out
        Folder of the run: weights, checkpoints, logs and the complete recipe.
    model
        Preset to train; `setmatch models` lists them. It brings the recipe called like it.
        Without it and a recipe it is that of the weights, and without weights too setmatch_n,
        which needs no download.
    weights
        Where to start from: a published name, one that comes along, a file, a run, "imagenet"
        (trunk only) or "none". By default what the recipe says.
    recipe
        YAML file, or the name of a recipe that comes with setmatch.
    epochs
        Train for so many rounds through the images.
    minutes
        Train by the clock: schedule, warm-up and evaluations follow the time left.
    joint
        Train boxes and masks at once, where the recipe has a stage for each.
    task
        Learn masks: "panoptic" of things and stuff, "instance" of things alone.
    resume
        Go on from the newest good checkpoint in the folder of the run.
    allow_changes
        Resume even if settings or data are no longer what the run began with; the model and its
        classes stay.
    """
    from setmatch.training.train import train

    if epochs is not None and minutes is not None:
        raise ConfigError("--epochs and --minutes: give the one that is to end the run")
    train(
        data,
        model,
        out=out,
        weights=weights,
        recipe=recipe,
        overrides=set_,
        epochs=epochs,
        minutes=minutes,
        joint=joint,
        resume=resume,
        allow_changes=allow_changes,
        device=device,
        format=format,
        task=task,
    )
