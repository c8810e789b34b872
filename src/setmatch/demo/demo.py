"""The demo: generate images, train, evaluate, predict, and write a page."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int32
from PIL import Image
from torch import Tensor

import setmatch as sm
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.demo.browser import write_browser_page
from setmatch.demo.html import Outcome, write_page
from setmatch.demo.more_time import Measured, more_time
from setmatch.errors import ConfigError
from setmatch.files.folder_lock import locked
from setmatch.files.writing import write_text
from setmatch.inference.pipeline import ImageResult
from setmatch.models.detector import Detector
from setmatch.models.factory import import_named
from setmatch.models.registry import find_preset
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.training.checkpoints.checkpoint import has_checkpoints, latest_valid
from setmatch.training.logging.curves.history import read_history
from setmatch.training.schedule.length import with_length
from setmatch.training.start.resolve_recipe import choose_recipe
from setmatch.visualize.boxes import draw
from setmatch.visualize.segments import draw_segments

SIZE_PX = 160
# Settings for small images, whatever the model.
SETTINGS = (
    f"data.short_side_px={SIZE_PX}",
    f"data.long_side_px={2 * SIZE_PX}",
    "data.workers=0",  # on few cores, a loader process competes with the training threads
    "data.augment=flip",
    "train.batch_size=16",
    "train.micro_batch=16",
)
Task = Literal["boxes", "panoptic"]
PRESETS: dict[Task, str] = {"boxes": "setmatch_n", "panoptic": "setmatch_n_panoptic"}
MINUTES: dict[Task, float] = {"boxes": 3.0, "panoptic": 8.0}  # masks need more training
FORMATS: dict[Task, str] = {"boxes": "coco", "panoptic": "panoptic"}
SCENES = 2000
SCALE = 2  # of the images on the page, so that names are legible
SHOWN = 12
SEED = 0


def demo(
    out: Path,
    *,
    scenes: int = SCENES,
    minutes: float | None = None,
    model: str | None = None,
    task: Task = "boxes",
    device: str = "auto",
) -> Path:
    """Run the demo in folder `out` and return its page, out/index.html.

    Generates `scenes` training images and a tenth as many validation images from a fixed seed, and
    trains `model` for `minutes`; the defaults depend on `task`. Scenes of the task "panoptic" are
    landscapes. metrics.json has the content of `evaluate --json` and the seconds until then. With
    the libraries of the extra `onnx`, out/browser gets a page that runs the model in a browser. An
    interrupted demo is resumed.

    Raises ConfigError if `out` has a demo with other settings or is written by another process,
    and the errors of training and evaluation.
    """
    preset = model or PRESETS[task]
    minutes = MINUTES[task] if minutes is None else minutes
    # They raise on invalid arguments, before anything is generated.
    import_named(preset)
    find_preset(preset)
    with_length(choose_recipe(preset, None, None, (), None), None, minutes)
    with locked(out):
        _refuse_other_demo(out, out / "run", preset, scenes)
        return _run_demo(out, scenes, minutes, preset, task, device)


def _run_demo(out: Path, scenes: int, minutes: float, preset: str, task: Task, device: str) -> Path:
    """Generate, train, evaluate, predict, and write the page."""
    data, folder, format = out / "data", out / "run", FORMATS[task]
    started = time.monotonic()
    panoptic = task == "panoptic"
    write_scenes(
        data, scenes, max(SHOWN, scenes // 10), SIZE_PX, SEED, workers=2, panoptic=panoptic
    )
    run = sm.train(
        data,
        preset,
        out=folder,
        weights="none",  # bundled weights are trained on such shapes
        overrides=SETTINGS,
        minutes=minutes,
        resume=folder.exists(),
        device=device,
        format=format,
    )
    trained = run.model
    validation = open_dataset(data, "val", format)
    report = sm.evaluate(trained, validation)
    seconds = time.monotonic() - started
    metrics = {**report.to_json(), "seconds": round(seconds, 1)}
    write_text(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    results = _draw_results(trained, validation, out / "images")
    page = out / "index.html"
    advice = None
    if (preset, scenes) == (PRESETS["boxes"], SCENES):
        steps = read_history(folder).steps
        advice = more_time(Measured(steps, report.AP, report.AP50), minutes)
    if advice is not None:
        print(advice, file=sys.stderr)
    outcome = Outcome(
        preset=preset,
        parameters=sum(parameter.numel() for parameter in trained.parameters()),
        scenes=scenes,
        minutes=minutes,
        seconds=seconds,
        threshold=trained.default_threshold,
        run=folder,
        index=validation,
        report=report,
        predictions=results,
        more_time=advice,
        in_browser=write_browser_page(trained, out),
    )
    write_page(outcome, page)
    return page


def _refuse_other_demo(out: Path, run: Path, preset: str, scenes: int) -> None:
    """Raise ConfigError if `out` has a demo with another model or number of images."""
    if not has_checkpoints(run):
        return
    facts = latest_valid(run).facts
    existing = facts["recipe"]["model"]["preset"], facts["data"]["images"]
    if existing != (preset, scenes):
        raise ConfigError(
            f"{out}: has a demo of {existing[0]} on {existing[1]} images, not of {preset} on "
            f"{scenes}; name another folder with --out"
        )


def _draw_results(trained: Detector, dataset: DetectionDataset, folder: Path) -> list[ImageResult]:
    """Predict the first images and draw predictions and ground truth into `folder`."""
    paths = [dataset.path(image) for image in range(SHOWN)]
    results = sm.predict(trained, paths, threshold=trained.default_threshold)
    assert isinstance(results, list), "a list of images gives a list of results"
    folder.mkdir(exist_ok=True)
    for number, result in enumerate(results):
        with Image.open(paths[number]) as image:
            both = _draw_pair(image, result, dataset, number)
        for name, drawn in zip(("prediction", "ground_truth"), both, strict=True):
            drawn.save(folder / f"{number:02d}_{name}.png")
    return results


def ground_truth(dataset: DetectionDataset, number: int) -> sm.Detections:
    """Return the annotations of one image as detections with a score of 1."""
    target = dataset.target(number)
    height, width = dataset.size_px(number)
    return sm.Detections(
        cxcywh_to_xyxy(target.cxcywh) * torch.tensor([width, height, width, height]),
        torch.ones(len(target)),
        target.classes,
        dataset.categories,
        (height, width),
    )


def _draw_enlarged(image: Image.Image, detections: sm.Detections) -> Image.Image:
    width, height = (SCALE * side for side in image.size)
    enlarged = dataclasses.replace(
        detections, xyxy_px=detections.xyxy_px * SCALE, size_px=(height, width)
    )
    return draw(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), enlarged)


def _draw_pair(
    image: Image.Image, result: ImageResult, dataset: DetectionDataset, number: int
) -> tuple[Image.Image, Image.Image]:
    """Draw the predictions and the ground truth of an image."""
    if result.segments is None:
        truth = ground_truth(dataset, number)
        return _draw_enlarged(image, result), _draw_enlarged(image, truth)
    enlarged = image.convert("RGB").resize(
        (SCALE * image.width, SCALE * image.height), Image.Resampling.LANCZOS
    )
    predicted, annotated = (
        draw_segments(enlarged, dataclasses.replace(each, ids=_upscaled(each.ids)))
        for each in (result.segments, dataset.segments(number))
    )
    return predicted, annotated


def _upscaled(ids: Int32[Tensor, "H W"]) -> Int32[Tensor, "h w"]:
    return ids.repeat_interleave(SCALE, dim=0).repeat_interleave(SCALE, dim=1)
