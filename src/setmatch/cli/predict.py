"""`setmatch predict`: detect objects in images."""

import sys
from pathlib import Path
from typing import Literal

from setmatch.cli.options import (
    BatchSize,
    Device,
    EngineName,
    Model,
    Overlap,
    Switch,
    Tiles,
)


def predict(
    model: Model,
    /,
    *images: str,
    out: Path,
    threshold: float | Literal["best"] | None = None,
    segment_threshold: float | None = None,
    classes: str | None = None,
    batch_size: BatchSize = 4,
    no_images: Switch = False,
    tiles: Tiles = None,
    overlap: Overlap = 0.2,
    device: Device = "auto",
    engine: EngineName = None,
) -> None:
    """Detect objects in images.

    For example:

        setmatch predict runs/first street.jpg --out results
        setmatch predict detr_r50 photos/ 'more/*.png' --out results --threshold 0.8

    Writes the images with their boxes to drawn/, and detections.json (COCO results) and
    detections.csv. A model with masks also writes COCO panoptic results: panoptic.json and
    panoptic/. There is no IoU threshold, because these models need no NMS.

    Parameters
    ----------
    images
        Image files, folders or glob patterns.
    out
        Folder for the results.
    threshold
        Minimum score (confidence) of a detection. Defaults to 0.7 for detr_* models and 0.5 for
        setmatch_*. "best" is that of each class with the highest F1 on the validation split.
    segment_threshold
        Minimum score of a segment in panoptic results. Defaults to the model's own.
    classes
        Write only objects of these classes: names, or class indices, separated by commas.
    no_images
        Write no images with boxes, which may take longer than the detection.
    """
    from setmatch.inference.arrays.engine import open_array_engine

    wanted = None if classes is None else [each.strip() for each in classes.split(",")]
    on_cpu = device in ("auto", "cpu") and engine in (None, "auto")
    arrays = open_array_engine(model) if on_cpu and tiles is None else None
    if arrays is not None:  # without torch, which takes seconds to import
        from setmatch.inference.arrays.predict_folder import predict_folder as predict_arrays

        summary = predict_arrays(
            arrays,
            images,
            out,
            threshold,
            batch_size=batch_size,
            classes=wanted,
            drawn=not no_images,
        )
    else:
        from setmatch.deploy.load import load_on
        from setmatch.distributed import init_distributed
        from setmatch.inference.engines.eager import as_engine
        from setmatch.inference.predict_folder import predict_folder
        from setmatch.inference.tiles.engine import with_tiles
        from setmatch.inference.tiles.views import images_at_once

        with init_distributed(device) as runtime:
            summary = predict_folder(
                with_tiles(as_engine(load_on(model, runtime.device, engine)), tiles, overlap),
                images,
                out,
                threshold,
                segment_threshold=segment_threshold,
                batch_size=images_at_once(tiles, batch_size),
                classes=wanted,
                drawn=not no_images,
            )
    for _, problem in summary.failed:
        print(f"setmatch: {problem}", file=sys.stderr)
    if summary.unreadable:
        print(f"setmatch: {summary.unreadable}", file=sys.stderr)
    if summary.replaced:
        print(f"setmatch: {summary.out}: {summary.replaced}", file=sys.stderr)
    print(f"images: {summary.images}, detections: {summary.detections}, written to {summary.out}")
