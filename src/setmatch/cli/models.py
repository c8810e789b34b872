"""The verbs that make and use models; the package says how verbs are written."""

import inspect
import sys
from pathlib import Path
from typing import Literal

from setmatch.cli.options import (
    BatchSize,
    Data,
    Device,
    Format,
    Model,
    Settings,
    Split,
    Switch,
    Workers,
)
from setmatch.errors import ConfigError, DataError


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


def evaluate(
    model: str,
    data: Data,
    /,
    *,
    split: Split = "val",
    json: Path | None = None,
    detections: Path | None = None,
    report: Path | None = None,
    threshold: float | None = None,
    batch_size: BatchSize = 4,
    workers: Workers = "auto",
    device: Device = "auto",
    format: Format = None,
) -> None:
    """Measure a model on annotated images: the COCO numbers, panoptic quality, and what is behind.

    Parameters
    ----------
    model
        Run folder, file, published name or hub id; or a .json file of saved detections.
    json
        Write the numbers to this file.
    detections
        Write every detection to this file, as COCO results.
    report
        Write a page to this file: errors and what they cost, curves, thresholds, worst images.
    threshold
        Merge segments from what scores more; the model has a default.
    """
    from rich.console import Console

    from setmatch.data.open import format_with_stuff, open_dataset
    from setmatch.evaluation import evaluate
    from setmatch.evaluation.evaluate_results import evaluate_saved, holds_detections
    from setmatch.models.load import load
    from setmatch.training.distributed import processes

    if holds_detections(model):
        index = open_dataset(data, split, format)
        _say_notes(index.notes)
        found = evaluate_saved(model, index, json=json, detections=detections, report=report)
        Console().print(found.table())
        return
    with processes(device) as runtime:
        detector = load(model).to(runtime.device)
        stuff = detector.card.categories.stuff
        read_as = format_with_stuff(data, split, format) if stuff else format
        index = open_dataset(data, split, read_as)
        _say_notes(index.notes if runtime.is_first else ())
        found = evaluate(
            detector,
            index,
            split=split,
            batch_size=batch_size,
            workers=workers,
            threshold=threshold,
            json=json,
            detections=detections,
            report=report,
            name=model,
            progress=True,
            rank=runtime.rank,
            world=runtime.world,
            gather=runtime.gather,
        )
        if runtime.is_first:
            Console().print(found.table())


def _say_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"setmatch: {note}", file=sys.stderr)


def predict(
    *images: str,
    model: Model,
    out: Path,
    threshold: float | None = None,
    segment_threshold: float | None = None,
    device: Device = "auto",
) -> None:
    """Find objects in pictures: annotated pictures, detections.json and detections.csv.

    A model with a mask head also writes COCO panoptic results: panoptic.json and panoptic/.

    Parameters
    ----------
    images
        Files, folders or globs.
    out
        Folder for the results.
    threshold
        Leave out what scores less (default: 0.7 for detr_*, 0.5 for setmatch_*).
    segment_threshold
        Merge segments from what scores more; the model has a default.
    """
    from setmatch.inference.predict_folder import predict_folder
    from setmatch.models.load import load
    from setmatch.training.distributed import processes

    with processes(device) as runtime:
        summary = predict_folder(
            load(model).to(runtime.device),
            images,
            out,
            threshold,
            segment_threshold=segment_threshold,
        )
    for _, why in summary.failed:
        print(f"setmatch: {why}", file=sys.stderr)
    if not summary.images:
        raise DataError(f"none of the {len(summary.failed)} pictures could be read")
    print(f"pictures: {summary.images}, detections: {summary.detections}, in {summary.out}")


def convert(
    source: Model,
    destination: Path,
    /,
    *,
    to: Literal["setmatch", "setmatch-small", "original", "transformers"],
    preset: str | None = None,
) -> None:
    """Translate weights between the published layouts and ours.

    Parameters
    ----------
    destination
        File (original) or folder (setmatch, transformers) to write.
    to
        The layout to write; setmatch-small spends one byte on a weight instead of four.
    preset
        Which model a .pth without its arguments holds.
    """
    from setmatch.models.load import convert

    for note in convert(source, destination, to, preset).notes:
        print(note)


def demo(
    *,
    out: Path = Path("demo"),
    scenes: int = 2000,
    minutes: float | None = None,
    model: str | None = None,
    task: Literal["boxes", "panoptic"] = "boxes",
    device: Device = "auto",
) -> None:
    """Make a small data set, train on it, evaluate, predict, and write a page to look at.

    Parameters
    ----------
    out
        Folder for data, run, pictures and page.
    scenes
        Pictures to generate for training.
    minutes
        How long to train: 3 for boxes, 8 for panoptic, unless you say otherwise.
    model
        Preset to train; `detr_r18_tiny` shows the published method on the same pictures.
    task
        "panoptic" finds things and stuff, pixel by pixel, in scenes that lie in a landscape.
    """
    from setmatch.demo import demo

    print(demo(out, scenes=scenes, minutes=minutes, model=model, task=task, device=device))


def models() -> None:
    """List the models that can be built, and the trained examples that come along, a line each."""
    from setmatch.models.load import bundled, read
    from setmatch.models.registry import MODELS
    from setmatch.models.torchvision.model import BASELINES

    for name, preset in {**MODELS, **BASELINES}.items():
        print(f"{name:22} {inspect.getdoc(preset)}")
    for name in bundled():
        card = read(name).card
        classes = ", ".join(str(known) for known in card.categories.names)
        print(f"{name:22} Example weights: {card.source}; finds {classes}.")
