"""`setmatch demo`: the whole workflow on generated images."""

from pathlib import Path
from typing import Literal

from setmatch.cli.options import Device


def demo(
    *,
    out: Path = Path("demo"),
    scenes: int = 2000,
    minutes: float | None = None,
    model: str | None = None,
    task: Literal["boxes", "panoptic"] = "boxes",
    device: Device = "auto",
) -> None:
    """Generate a small data set, train and evaluate on it, and show the results.

    For example:

        setmatch demo
        setmatch demo --task panoptic --out demo_masks

    Nothing is downloaded. Open index.html in --out afterwards. Run the same command again to
    resume.

    Parameters
    ----------
    out
        Folder for the data, the run, the images and the page.
    scenes
        Number of training images to generate.
    minutes
        Minutes of training. Defaults to 3 for boxes and 8 for panoptic.
    model
        Model to train: a preset (see `setmatch models`), or a function of your own as
        package.module:factory. Defaults to setmatch_n or setmatch_n_panoptic.
    task
        "boxes" detects objects; "panoptic" also segments things and stuff.
    """
    from setmatch.demo.demo import demo

    print(demo(out, scenes=scenes, minutes=minutes, model=model, task=task, device=device))
