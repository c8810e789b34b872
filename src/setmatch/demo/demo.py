"""The whole journey on generated pictures: make data, train, evaluate, predict, look."""

import dataclasses
import json
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
from setmatch.demo.html import Outcome, write_page
from setmatch.errors import ConfigError
from setmatch.files import atomic_file
from setmatch.inference.pipeline import ImageResult
from setmatch.models.detector import Detector
from setmatch.models.registry import find_preset
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.training.checkpoints.checkpoint import has_checkpoints, latest_valid
from setmatch.training.resolve_recipe import choose_recipe
from setmatch.training.stages import with_length
from setmatch.visualize import draw, draw_segments

SIZE_PX = 160
# What suits pictures this small, whichever model is shown.
SETTINGS = (
    f"data.short_side_px={SIZE_PX}",
    f"data.long_side_px={2 * SIZE_PX}",
    "data.workers=0",  # on few cores a second process only gets in the way of the threads
    "data.augment=flip",
    "train.batch_size=16",
    "train.micro_batch=16",
)
Task = Literal["boxes", "panoptic"]
PRESETS: dict[Task, str] = {"boxes": "setmatch_n", "panoptic": "setmatch_n_panoptic"}
MINUTES: dict[Task, float] = {"boxes": 3.0, "panoptic": 8.0}  # masks take longer to learn
FORMATS: dict[Task, str] = {"boxes": "coco", "panoptic": "panoptic"}
ENLARGE = 2  # pictures on the page, so that boxes and names are legible
SHOWN = 12
SEED = 0


def demo(
    out: Path,
    *,
    scenes: int = 2000,
    minutes: float | None = None,
    model: str | None = None,
    task: Task = "boxes",
    device: str = "auto",
) -> Path:
    """Run the demonstration in folder `out` and return its page, out/index.html.

    `scenes` training pictures, and a tenth as many for validation, are drawn from a fixed seed;
    `model` learns from them for so many minutes; both are by default what suits the task. The
    scenes of the task "panoptic" lie in a landscape. metrics.json holds what `evaluate --json`
    writes, and the seconds of this call. An interrupted demonstration goes on where it was. Raises
    ConfigError where `out` has another one, and what its steps raise.
    """
    data, folder = out / "data", out / "run"
    preset, format = model or PRESETS[task], FORMATS[task]
    minutes = MINUTES[task] if minutes is None else minutes
    find_preset(preset)  # refuses what is no model, before anything is drawn
    with_length(choose_recipe(preset, None, None, (), None), None, minutes)  # and what is no length
    _refuse_another(out, folder, preset, scenes)
    began = time.monotonic()
    panoptic = task == "panoptic"
    write_scenes(
        data, scenes, max(SHOWN, scenes // 10), SIZE_PX, SEED, workers=2, panoptic=panoptic
    )
    run = sm.train(
        data,
        preset,
        out=folder,
        weights="none",  # or it would know these shapes before
        overrides=SETTINGS,
        minutes=minutes,
        resume=folder.exists(),
        device=device,
        format=format,
    )
    trained = run.model
    index = open_dataset(data, "val", format)
    report = sm.evaluate(trained, index)
    seconds = time.monotonic() - began
    with atomic_file(out / "metrics.json") as aside:
        metrics = {**report.to_json(), "seconds": round(seconds, 1)}
        aside.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    found = _show(trained, index, out / "pictures")
    page = out / "index.html"
    outcome = Outcome(
        preset=preset,
        parameters=sum(parameter.numel() for parameter in trained.parameters()),
        scenes=scenes,
        minutes=minutes,
        seconds=seconds,
        threshold=trained.default_threshold,
        run=folder,
        index=index,
        report=report,
        found=found,
    )
    write_page(outcome, page)
    return page


def _refuse_another(out: Path, run: Path, preset: str, scenes: int) -> None:
    """Raise ConfigError, before any file is written, where `out` has another demonstration."""
    if not has_checkpoints(run):
        return
    facts = latest_valid(run).facts
    told = facts["recipe"]["model"]["preset"], facts["data"]["images"]
    if told != (preset, scenes):
        raise ConfigError(
            f"{out}: has a demonstration of {told[0]} on {told[1]} pictures, not of {preset} on "
            f"{scenes}; name another folder with --out"
        )


def _show(trained: Detector, index: DetectionDataset, pictures: Path) -> list[ImageResult]:
    """Answer the first pictures, draw each beside the truth, and return the answers."""
    paths = [index.path(image) for image in range(SHOWN)]
    found = sm.predict(trained, paths, threshold=trained.default_threshold)
    assert isinstance(found, list), "many pictures have many answers"
    pictures.mkdir(exist_ok=True)
    for image, answer in enumerate(found):
        with Image.open(paths[image]) as picture:
            both = _pair(picture, answer, index, image)
        for name, drawn in zip(("found", "truth"), both, strict=True):
            drawn.save(pictures / f"{image:02d}_{name}.png")
    return found


def truth(index: DetectionDataset, image: int) -> sm.Detections:
    """Return the annotated objects of one image as if they had been found with certainty."""
    target = index.target(image)
    height, width = index.size_px(image)
    return sm.Detections(
        cxcywh_to_xyxy(target.cxcywh) * torch.tensor([width, height, width, height]),
        torch.ones(len(target)),
        target.classes,
        index.categories,
        (height, width),
    )


def _enlarged(picture: Image.Image, detections: sm.Detections) -> Image.Image:
    width, height = (ENLARGE * side for side in picture.size)
    larger = dataclasses.replace(
        detections, xyxy_px=detections.xyxy_px * ENLARGE, size_px=(height, width)
    )
    return draw(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), larger)


def _pair(
    picture: Image.Image, answer: ImageResult, index: DetectionDataset, image: int
) -> tuple[Image.Image, Image.Image]:
    """Draw what was found in a picture, and what is there."""
    if answer.segments is None:
        return _enlarged(picture, answer), _enlarged(picture, truth(index, image))
    large = picture.convert("RGB").resize(
        (ENLARGE * picture.width, ENLARGE * picture.height), Image.Resampling.LANCZOS
    )
    found, there = (
        draw_segments(large, dataclasses.replace(each, ids=_repeated(each.ids)))
        for each in (answer.segments, index.segments(image))
    )
    return found, there


def _repeated(ids: Int32[Tensor, "H W"]) -> Int32[Tensor, "h w"]:
    return ids.repeat_interleave(ENLARGE, dim=0).repeat_interleave(ENLARGE, dim=1)
