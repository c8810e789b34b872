"""`setmatch predict`: detect objects in images."""

import sys
from pathlib import Path

from setmatch.cli.options import (
    Device,
    Model,
)
from setmatch.errors import DataError


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
    from setmatch.distributed import init_distributed
    from setmatch.inference.predict_folder import predict_folder
    from setmatch.models.load import load

    with init_distributed(device) as runtime:
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
