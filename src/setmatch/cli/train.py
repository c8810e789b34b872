"""`setmatch train`: train a detector on annotated images."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from setmatch.cli.options import (
    Boxes,
    Data,
    Device,
    Format,
    Settings,
    Switch,
    TrainedModel,
    Weights,
)


def train(
    data: Data,
    /,
    *,
    out: Path,
    model: TrainedModel = None,
    weights: Weights = None,
    recipe: str | None = None,
    set_: Settings = (),
    epochs: int | None = None,
    minutes: float | None = None,
    freeze: Literal["stem", "backbone", "encoder", "none"] | None = None,
    joint: Switch = False,
    task: Literal["panoptic", "instance"] | None = None,
    tiles: Annotated[int | Literal["auto"] | None, Parameter(show_choices=False)] = None,
    resume: Switch = False,
    allow_changes: Switch = False,
    device: Device = "auto",
    format: Format = None,
    boxes: Boxes = None,
    log: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
) -> None:
    """Train a detector on annotated images.

    For example:

        setmatch train data/ --out runs/first
        setmatch train data/ --out runs/long --model setmatch_s --epochs 60
        setmatch train data/ --out runs/tuned --weights detr_r50 --recipe finetune
        setmatch train data/ --out runs/first --resume
        torchrun --nproc-per-node 2 -m setmatch train data/ --out runs/two_gpus

    `setmatch audit data/` checks the data first and recommends a recipe. The number of classes
    comes from the data. Open live.html in --out to watch the run.

    A recipe holds every other setting: image size (data.short_side_px), batch size
    (train.batch_size), learning rate (train.lr), augmentation (data.augment), and more. recipe.yaml
    in --out lists all of them.

    Parameters
    ----------
    out
        Folder for the run: weights, checkpoints, logs and the complete recipe.
    recipe
        Training recipe: a YAML file, or the name of a recipe that comes with setmatch.
    epochs
        Train for this many epochs. Defaults to what the recipe says.
    minutes
        Train for this many minutes instead; the schedule adapts to the speed of the machine.
    freeze
        Part of a trained model that keeps its weights: the stem of the backbone, all of it, or
        backbone and encoder. This saves time and memory. Defaults to what the recipe says.
    joint
        Train boxes and masks together, with a recipe that would train them in two stages.
    task
        Train masks too: "panoptic" for things and stuff, "instance" for things only.
    tiles
        Learn from random tiles of this many pixels a side, and from whole images; auto: as large as
        the images that the model takes. For small objects in large images; predict with the same
        tiles.
    resume
        Continue from the latest checkpoint in --out; starts a new run if there is none.
    allow_changes
        Resume even if settings or data have changed. Model and classes must stay the same.
    log
        Also log to tensorboard (in --out), wandb, mlflow or trackio. Repeatable.
    """
    from setmatch.training.train import train

    train(
        data,
        model,
        out=out,
        weights=weights,
        recipe=recipe,
        overrides=set_,
        epochs=epochs,
        minutes=minutes,
        freeze=freeze,
        joint=joint,
        resume=resume,
        allow_changes=allow_changes,
        device=device,
        format=format,
        boxes=boxes,
        task=task,
        tiles=tiles,
        callbacks=log,
    )
