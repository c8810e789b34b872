"""The whole journey on generated pictures: make data, train, evaluate, predict, look."""

import dataclasses
import html
import json
import string
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int32
from PIL import Image
from torch import Tensor

import setmatch as sm
from setmatch.boxes import cxcywh_to_xyxy
from setmatch.data.index import Index
from setmatch.data.opening import open_dataset
from setmatch.data.scenes import write_scenes
from setmatch.draw import draw, draw_segments
from setmatch.evaluate import Report
from setmatch.files import whole_file
from setmatch.predict import Found

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
FORMATS: dict[Task, str] = {"boxes": "coco", "panoptic": "panoptic"}
ENLARGE = 2  # pictures on the page, so that boxes and names are legible
SHOWN = 12
THRESHOLD = 0.5
SEED = 0

PAGE = string.Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>setmatch demo</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
         padding: 0 1rem; color: #1d1f24; background: #fff; }
  table { border-collapse: collapse; }
  td, th { padding: .15rem .9rem .15rem 0; text-align: left; font-variant-numeric: tabular-nums; }
  .scenes { display: grid; gap: 1rem;
            grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); }
  figure { margin: 0; }
  figure img { width: 49%; }
  figcaption { color: #5b6068; font-size: .9rem; }
</style>
<h1>$task as set prediction, learnt in $minutes minutes</h1>
<p>The model <code>$preset</code> learnt from $scenes generated pictures, starting from
random weights. $verdict</p>
<table>
<tr><th>on $unseen pictures it never saw</th><th>$measure</th></tr>
$numbers
</table>
<h2>What it finds</h2>
<p>Left: $answers. Right: what is there.</p>
<div class="scenes">
$figures
</div>
<p>Pictures and annotations are in <code>data/</code> (ordinary COCO JSON), the model, its recipe
and its log in <code>run/</code>: <a href="run/live.html">how it learnt</a>.</p>
</html>
""")


def demo(
    out: Path,
    *,
    scenes: int = 2000,
    minutes: float = 3.0,
    model: str | None = None,
    task: Task = "boxes",
    device: str = "auto",
) -> Path:
    """Run the demonstration in folder `out` and return its page, out/index.html.

    `scenes` training pictures, and a tenth as many for validation, are drawn from a fixed seed;
    `model` (default: one that suits the task) learns from them for so many minutes. The scenes of
    the task "panoptic" lie in a landscape. metrics.json holds what `evaluate --json` writes,
    and the seconds all took. An interrupted demonstration goes on where it was. Raises what its
    steps raise.
    """
    data, folder = out / "data", out / "run"
    preset, format = model or PRESETS[task], FORMATS[task]
    began = time.monotonic()
    panoptic = task == "panoptic"
    write_scenes(
        data, scenes, max(SHOWN, scenes // 10), SIZE_PX, SEED, workers=2, panoptic=panoptic
    )
    run = sm.train(
        data,
        preset,
        out=folder,
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
    with whole_file(out / "metrics.json") as aside:
        metrics = {**report.to_json(), "seconds": round(seconds, 1)}
        aside.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")

    paths = [index.path(image) for image in range(SHOWN)]
    found = sm.predict(trained, paths, threshold=THRESHOLD)
    assert isinstance(found, list), "many pictures have many answers"
    pictures = out / "pictures"
    pictures.mkdir(exist_ok=True)
    for image, answer in enumerate(found):
        with Image.open(paths[image]) as picture:
            both = _pair(picture, answer, index, image)
        for name, drawn in zip(("found", "truth"), both, strict=True):
            drawn.save(pictures / f"{image:02d}_{name}.png")
    page = out / "index.html"
    text = PAGE.substitute(
        preset=preset,
        task="Panoptic segmentation" if panoptic else "Detection",
        measure="AP" if report.panoptic is None else "PQ",
        scenes=scenes,
        minutes=f"{minutes:g}",
        unseen=len(index),
        verdict=_verdict(report),
        numbers="\n".join(_rows(report)),
        figures="\n".join(_figures(index, found)),
        answers="the model's segments" if panoptic else f"what scores over {THRESHOLD}",
    )
    page.write_text(text, encoding="utf-8")
    return page


def truth(index: Index, image: int) -> sm.Detections:
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
    picture: Image.Image, answer: Found, index: Index, image: int
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


def _verdict(report: Report) -> str:
    if report.panoptic is not None:
        return "Panoptic quality says how many segments are right, and how well they fit."
    if report.AP < 0.1:
        return (
            "That is far too little for a transformer without pretrained weights: the numbers are "
            "near zero, and the boxes show it. The journey is what this page shows, not the model."
        )
    return "The scores below are averages over overlaps from 50 to 95 percent."


def _rows(report: Report) -> Iterator[str]:
    quality = report.panoptic
    if quality is None:
        numbers = {
            "all classes": report.AP,
            "all classes, half an overlap being enough": report.AP50,
        }
        numbers |= {name: of_class.AP for name, of_class in report.per_class.items()}
    else:
        groups = {"all classes": quality.all, "things": quality.things, "stuff": quality.stuff}
        numbers = {name: group.PQ for name, group in groups.items()}
        numbers |= {name: of_class.PQ for name, of_class in quality.per_class.items()}
    for name, value in numbers.items():
        yield f"<tr><td>{html.escape(name)}</td><td>{100 * value:.1f}</td></tr>"


def _figures(index: Index, found: Sequence[Found]) -> Iterator[str]:
    for image, detections in enumerate(found):
        there = len(index.target(image))
        answers = len(detections if detections.segments is None else detections.segments)
        yield (
            f'<figure><img src="pictures/{image:02d}_found.png" alt="found"> '
            f'<img src="pictures/{image:02d}_truth.png" alt="truth">'
            f"<figcaption>{answers} answers, {there} there</figcaption></figure>"
        )
