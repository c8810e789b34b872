"""`setmatch evaluate`: measure a model on annotated images."""

import sys
from pathlib import Path

from setmatch.cli.options import (
    BatchSize,
    Data,
    Device,
    Format,
    Split,
    Workers,
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

    from setmatch.data.open import open_dataset, prefer_panoptic
    from setmatch.distributed import init_distributed
    from setmatch.evaluation.evaluate import evaluate
    from setmatch.evaluation.evaluate_results import evaluate_saved, holds_detections
    from setmatch.models.load import load

    if holds_detections(model):
        index = open_dataset(data, split, format)
        _say_notes(index.notes)
        found = evaluate_saved(model, index, json=json, detections=detections, report=report)
        Console().print(found.table())
        return
    with init_distributed(device) as runtime:
        detector = load(model).to(runtime.device)
        stuff = detector.card.categories.stuff
        read_as = prefer_panoptic(data, split, format) if stuff else format
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
