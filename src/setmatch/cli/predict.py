"""`setmatch predict`: detect objects in images."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from setmatch.cli.options import (
    BatchSize,
    Device,
    EngineName,
    Model,
    Overlap,
    Switch,
    Tiles,
)
from setmatch.errors import ConfigError

if TYPE_CHECKING:
    from setmatch.bulk.predictor import Predictor


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
    shard: str | None = None,
    part_images: int | None = None,
    ray: Switch = False,
    device: Device = "auto",
    engine: EngineName = None,
) -> None:
    """Detect objects in images.

    For example:

        setmatch predict runs/first street.jpg --out results
        setmatch predict detr_r50 photos/ 'more/*.png' --out results --threshold 0.8
        setmatch predict runs/first s3://bucket/images --out answers.parquet --shard 3/16

    Writes the images with their boxes to drawn/, and detections.json (COCO results) and
    detections.csv. A model with masks also writes COCO panoptic results: panoptic.json and
    panoptic/. There is no IoU threshold, because these models need no NMS.

    With --out NAME.parquet, writes a folder of Parquet files instead, with a row for each detection
    and no images. It is made for any number of images: whatever ends the command, giving it again
    continues.

    Parameters
    ----------
    images
        Image files, folders or glob patterns; for Parquet files, also addresses such as
        s3://bucket/images, and text files (.txt, .lst) with an image a line.
    out
        Folder for the results; one that ends in .parquet gets Parquet files.
    threshold
        Minimum score (confidence) of a detection. Defaults to 0.7 for detr_* models and 0.5 for
        setmatch_*. "best" is that of each class with the highest F1 on the validation split.
    segment_threshold
        Minimum score of a segment in panoptic results. Defaults to the model's own.
    classes
        Write only objects of these classes: names, or class indices, separated by commas.
    no_images
        Write no images with boxes, which may take longer than the detection.
    shard
        The share of the images that this process takes, for Parquet files: 3/16 is the third of 16;
        auto: the one of this process under torchrun or in a SLURM array.
    part_images
        Images whose rows are one Parquet file. Defaults to 1000.
    ray
        Compute Parquet files by workers of Ray: of the cluster at RAY_ADDRESS, or of this machine.
    """
    wanted = None if classes is None else [each.strip() for each in classes.split(",")]
    if out.suffix == ".parquet":
        from setmatch.bulk.predictor import Predictor

        if segment_threshold is not None:
            raise ConfigError("--segment-threshold: rows of Parquet files have no segments")
        predictor = Predictor(
            model,
            engine,
            device=device,
            threshold=threshold,
            classes=wanted,
            batch_size=batch_size,
            tiles=tiles,
            overlap=overlap,
        )
        _predict_parquet(predictor, images, out, shard, part_images, ray)
        return
    for name, value in (("shard", shard), ("part-images", part_images), ("ray", ray or None)):
        if value is not None:
            raise ConfigError(
                f"--{name}: for Parquet files alone; name them, as --out {out}.parquet"
            )
    from setmatch.inference.arrays.engine import open_array_engine

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


def _predict_parquet(
    predictor: "Predictor",
    images: Sequence[str],
    out: Path,
    shard: str | None,
    part_images: int | None,
    ray: bool,
) -> None:
    """Write Parquet files, and say what they have."""
    from setmatch.bulk.on_ray import compute_on_ray
    from setmatch.bulk.predict_parquet import PART_IMAGES, compute_here, predict_parquet

    if shard is None and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(
            "several processes of torchrun would write the same rows; add --shard auto"
        )
    summary = predict_parquet(
        predictor,
        images,
        out,
        shard=shard or "1/1",
        part_images=PART_IMAGES if part_images is None else part_images,
        compute=compute_on_ray if ray else compute_here,
    )
    if summary.before:
        print(
            f"setmatch: {summary.before} of {summary.images} images were done before",
            file=sys.stderr,
        )
    if summary.unreadable:
        print(
            f"setmatch: {summary.unreadable} of {summary.images} images cannot be read; the column "
            "error says why",
            file=sys.stderr,
        )
    print(f"images: {summary.images}, detections: {summary.detections}, written to {out}")
    if summary.unfinished:
        print(f"shards that are not done yet: {', '.join(summary.unfinished)}")
