"""`setmatch compare`: compare models by size, speed and accuracy."""

from functools import partial
from pathlib import Path
from typing import Annotated

from setmatch.cli.options import (
    Boxes,
    Device,
    EngineName,
    Format,
    Required,
    Rounds,
    Split,
    Workers,
)
from setmatch.cli.written import say_written
from setmatch.files.writing import require_file, require_page


def compare(
    *models: Annotated[str, Required],
    data: str | None = None,
    split: Split = "val",
    json: Path | None = None,
    html: Path | None = None,
    rounds: Rounds = 10,
    batch_size: int = 4,
    short_side_px: int = 800,
    workers: Workers = "auto",
    device: Device = "auto",
    engine: EngineName = None,
    format: Format = None,
    boxes: Boxes = None,
) -> None:
    """Compare models: parameters, multiply-adds, latency, throughput, memory and AP.

    For example:

        setmatch compare detr_r50 detr_r101 setmatch_s
        setmatch compare runs/first runs/second results.json --data data/ --html compare.html

    Models are timed in turns, so that all meet the same conditions.

    Parameters
    ----------
    models
        Trained models: run folders, weights files, published names or hub ids. Presets, and
        functions of your own as package.module:factory, get random weights and are only timed.
        random:detr_r50 times a published model without downloading its weights. JSON files of COCO
        results get an AP, but no time.
    data
        Data set to measure AP on: a folder, a YOLO data.yaml, or a COCO JSON file. Without it,
        models are only timed.
    json
        Write the results to this JSON file.
    html
        Write an HTML page to this file.
    batch_size
        Images per batch for throughput. Latency is for one image.
    short_side_px
        Image size for models without trained weights; trained models store theirs.
    """
    from rich.console import Console

    from setmatch.deploy.load import load_on
    from setmatch.evaluation.compare.compare import compare
    from setmatch.evaluation.compare.html import write_page

    if json is not None:
        require_file(json)
    if html is not None:
        require_page(html)
    comparison = compare(
        models,
        data,
        split=split,
        format=format,
        boxes=boxes,
        rounds=rounds,
        batch_size=batch_size,
        workers=workers,
        short_side_px=short_side_px,
        device=device,
        load=partial(load_on, engine=engine),
        progress=True,
    )
    Console().print(comparison.table())
    if json is not None:
        comparison.write_json(json)
    if html is not None:
        write_page(comparison, html)
    say_written(json, html)
