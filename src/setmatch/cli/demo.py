"""`setmatch demo`: the whole workflow on generated images."""

from pathlib import Path
from typing import Literal

from setmatch.cli.options import (
    Device,
)


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
    from setmatch.demo.demo import demo

    print(demo(out, scenes=scenes, minutes=minutes, model=model, task=task, device=device))
