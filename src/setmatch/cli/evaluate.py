"""`setmatch evaluate`: measure a model on annotated images."""

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
    """Measure a model on annotated images: COCO AP and AR, and panoptic quality.

    Parameters
    ----------
    model
        Run folder, file, published name or hub id; or a .json file of saved detections.
    json
        Write the numbers to this file.
    detections
        Write all detections to this file, as COCO results.
    report
        Write an HTML page to this file: errors and their cost, curves, thresholds, worst images.
    threshold
        Merge segments from queries that score more (default: the model's own threshold).
    """
    from rich.console import Console

    from setmatch.distributed import init_distributed
    from setmatch.evaluation.evaluate import evaluate
    from setmatch.evaluation.saved_detections import is_saved_detections
    from setmatch.models.load import load

    is_saved = is_saved_detections(model)
    with init_distributed("cpu" if is_saved else device) as distributed:
        found = evaluate(
            model if is_saved else load(model).to(distributed.device),
            data,
            split=split,
            format=format,
            batch_size=batch_size,
            workers=workers,
            threshold=threshold,
            json=json,
            detections=detections,
            report=report,
            name=model,
            progress=True,
            distributed=distributed,
        )
        if distributed.is_first:
            Console().print(found.table())
