"""`setmatch evaluate`: measure a model on annotated images."""

from pathlib import Path

from setmatch.cli.options import (
    BatchSize,
    Boxes,
    Data,
    Device,
    EngineName,
    Format,
    Overlap,
    SegmentThreshold,
    Split,
    Tiles,
    Workers,
)
from setmatch.cli.written import say_written


def evaluate(
    model: str,
    data: Data,
    /,
    *,
    split: Split = "val",
    json: Path | None = None,
    detections: Path | None = None,
    report: Path | None = None,
    segment_threshold: SegmentThreshold = None,
    tiles: Tiles = None,
    overlap: Overlap = 0.2,
    batch_size: BatchSize = 4,
    workers: Workers = "auto",
    device: Device = "auto",
    engine: EngineName = None,
    format: Format = None,
    boxes: Boxes = None,
) -> None:
    """Measure COCO AP and AR, and panoptic quality for models with masks.

    For example:

        setmatch evaluate runs/first data/
        setmatch evaluate detr_r50 coco/ --report report.html
        setmatch evaluate detections.json data/ --split test

    AP is averaged over IoU 0.5 to 0.95 (mAP50-95 in YOLO), AP50 is at IoU 0.5 (mAP50).

    Parameters
    ----------
    model
        Trained model: a run folder, a weights file, a name with weights (see `setmatch models`), or
        a hub id. Or saved detections: a JSON file written by evaluate or predict, or COCO results.
        It is the first argument, or the value of --model.
    json
        Write the metrics to this JSON file.
    detections
        Write all detections to this JSON file, as COCO results.
    report
        Write an HTML report to this file: kinds of error, PR curves, thresholds, worst images.
    """
    from rich.console import Console

    from setmatch.deploy.load import load_on
    from setmatch.distributed import init_distributed
    from setmatch.evaluation.evaluate import evaluate
    from setmatch.evaluation.saved_detections import is_saved_detections

    is_saved = is_saved_detections(model)
    with init_distributed("cpu" if is_saved else device) as distributed:
        result = evaluate(
            model if is_saved else load_on(model, distributed.device, engine),
            data,
            split=split,
            format=format,
            boxes=boxes,
            batch_size=batch_size,
            tiles=tiles,
            overlap=overlap,
            workers=workers,
            segment_threshold=segment_threshold,
            json=json,
            detections=detections,
            report=report,
            name=model,
            progress=True,
            distributed=distributed,
        )
        if distributed.is_first:
            Console().print(result.table())
            say_written(json, detections, report)
