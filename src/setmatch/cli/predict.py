"""`setmatch predict`: detect objects in images and videos."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from setmatch.cli.options import (
    BatchSize,
    Device,
    EngineName,
    Model,
    Overlap,
    Required,
    SegmentThreshold,
    Switch,
    Threshold,
    Tiles,
)
from setmatch.errors import ConfigError, DataError

if TYPE_CHECKING:
    from setmatch.bulk.predictor import Predictor
    from setmatch.inference.options import Thresholds
    from setmatch.inference.results_folder import Summary
    from setmatch.inference.video.detected_frames import FrameDetector
    from setmatch.inference.video.results import VideoSummary

_FOR_VIDEOS = "--track, --every and --fps are for videos, and no source is a video"


def predict(
    model: Model,
    /,
    *sources: Annotated[str, Required],
    out: Path,
    threshold: Threshold = None,
    segment_threshold: SegmentThreshold = None,
    classes: str | None = None,
    batch_size: BatchSize = 4,
    no_images: Switch = False,
    every: int = 1,
    fps: float | None = None,
    track: Switch = False,
    tiles: Tiles = None,
    overlap: Overlap = 0.2,
    shard: str | None = None,
    part_images: int | None = None,
    ray: Switch = False,
    device: Device = "auto",
    engine: EngineName = None,
) -> None:
    """Detect objects in images and videos.

    For example:

        setmatch predict runs/first street.jpg --out results
        setmatch predict detr_r50 photos/ 'more/*.png' --out results --threshold 0.8
        setmatch predict runs/first clip.mp4 --out results --track
        setmatch predict runs/first 0 --out results --fps 5
        setmatch predict runs/first s3://bucket/images --out detections.parquet --shard 3/16

    Writes the images with their boxes to drawn/, and detections.json (COCO results) and
    detections.csv. A model with masks also writes COCO panoptic results: panoptic.json and
    panoptic/. There is no IoU threshold, because these models need no NMS.

    For videos, cameras and streams, writes the video with boxes to drawn/, and detections.jsonl
    with a line for each frame. Ctrl-C ends the command; results up to that image or frame are
    kept.

    With --out NAME.parquet, writes a folder of Parquet files instead, with a row for each detection
    and no images. It works for any number of images. Run the same command again to resume after an
    interruption.

    Parameters
    ----------
    sources
        Image and video files, folders, glob patterns, the number of a camera, the address of a
        stream, or a pipe such as /dev/stdin. Parquet files take images only; these may also be
        addresses such as s3://bucket/images, and text files (.txt, .lst) with one image per line.
    out
        Folder for the results. A name that ends in .parquet gets Parquet files.
    classes
        Keep only these classes: names or class indices, separated by commas. A name that itself
        contains a comma is written as it is.
    no_images
        Do not draw images and videos. Drawing may take longer than detection.
    every
        For videos: use every Nth frame. 3 uses every third one.
    fps
        For videos: use at most this many frames per second of video.
    track
        For videos: track objects. Each gets a number, a drawn trail, and a row in tracks.csv.
    shard
        For Parquet files: process only this shard of the images. 3/16 is shard 3 of 16; auto takes
        the number from torchrun or a SLURM array.
    part_images
        For Parquet files: number of images in each file. Defaults to 1000.
    ray
        For Parquet files: run on Ray, on the cluster at RAY_ADDRESS or on this machine.
    """
    if out.suffix == ".parquet":
        from setmatch.bulk.predictor import Predictor

        if segment_threshold is not None:
            raise ConfigError("--segment-threshold: rows of Parquet files have no segments")
        predictor = Predictor(
            model,
            engine,
            device=device,
            threshold=threshold,
            classes=classes,
            batch_size=batch_size,
            tiles=tiles,
            overlap=overlap,
        )
        if track or every != 1 or fps is not None:
            raise ConfigError(
                "--track, --every and --fps are for videos, and Parquet files take images only: "
                "use another --out"
            )
        _predict_parquet(predictor, sources, out, shard, part_images, ray)
        return
    for name, value in (("shard", shard), ("part-images", part_images), ("ray", ray or None)):
        if value is not None:
            raise ConfigError(
                f"--{name} is only for Parquet files: write them with --out {out}.parquet"
            )
    from setmatch.inference.arrays.engine import open_array_engine
    from setmatch.inference.arrays.known_files import known_file
    from setmatch.inference.options import PredictOptions
    from setmatch.inference.tiles.views import images_at_once, require_overlap
    from setmatch.inference.video.frame_choice import FrameChoice
    from setmatch.inference.video.sources import split_sources

    choice = FrameChoice(every, fps)
    require_overlap(overlap)
    at_once = images_at_once(tiles, batch_size)
    is_plain = device in ("auto", "cpu") and tiles is None
    file = model if engine in (None, "auto") else known_file(model, engine)
    arrays = open_array_engine(file) if is_plain and file is not None else None
    with ExitStack() as stack:
        predict_images: Callable[..., Summary]
        frames: Callable[[PredictOptions, bool], FrameDetector[Any]]
        runs: Thresholds
        if arrays is not None:  # without torch, which takes seconds to import
            from setmatch.inference.arrays.frames import ArrayFrames
            from setmatch.inference.arrays.predict_folder import predict_folder as predict_arrays

            runs, predict_images = arrays, partial(predict_arrays, arrays)
            frames = partial(ArrayFrames, arrays)
        else:
            from setmatch.deploy.load import load_on
            from setmatch.distributed import init_distributed
            from setmatch.inference.engines.eager import as_engine
            from setmatch.inference.predict_folder import predict_folder
            from setmatch.inference.tiles.engine import with_tiles
            from setmatch.inference.video.predict_video import TensorFrames

            runtime = stack.enter_context(init_distributed(device))
            eager = as_engine(load_on(model, runtime.device, engine))
            tiled = with_tiles(eager, tiles, overlap)
            runs, frames = tiled, partial(TensorFrames, tiled)
            predict_images = partial(predict_folder, tiled, segment_threshold=segment_threshold)
        images, videos = split_sources(sources)
        if not videos and (track or choice != FrameChoice()):
            raise ConfigError(_FOR_VIDEOS)
        options = PredictOptions.of(runs, threshold, segment_threshold, at_once, classes)
        if images or not videos:
            try:
                _report_images(
                    predict_images(
                        images,
                        out,
                        threshold,
                        batch_size=at_once,
                        classes=classes,
                        drawn=not no_images,
                    )
                )
            except DataError as error:
                if not videos:
                    raise
                print(f"setmatch: {error}", file=sys.stderr)
        if videos:
            from setmatch.inference.video.results import VideoOptions, write_videos

            reading = VideoOptions(choice, at_once, track, drawn=not no_images)
            _report_videos(write_videos(frames(options, track), videos, out, reading))


def _report_images(summary: "Summary") -> None:
    """Print the summary; raise KeyboardInterrupt if Ctrl-C ended the images."""
    for _, problem in summary.failed:
        print(f"setmatch: {problem}", file=sys.stderr)
    if summary.unreadable:
        print(f"setmatch: {summary.unreadable}", file=sys.stderr)
    if summary.further_frames:
        print(f"setmatch: {summary.further_frames}", file=sys.stderr)
    if summary.replaced:
        print(f"setmatch: {summary.out}: {summary.replaced}", file=sys.stderr)
    print(f"images: {summary.images}, detections: {summary.detections}, written to {summary.out}")
    if summary.interrupted:
        raise KeyboardInterrupt


def _report_videos(summary: "VideoSummary") -> None:
    """Print the summary; raise KeyboardInterrupt if Ctrl-C ended the videos."""
    for note in summary.notes:
        print(f"setmatch: {note}", file=sys.stderr)
    if summary.replaced:
        print(f"setmatch: {summary.out}: {summary.replaced}", file=sys.stderr)
    tracks = "" if summary.tracks is None else f", tracks: {summary.tracks}"
    print(
        f"videos: {summary.videos}, frames: {summary.frames}, detections: {summary.detections}"
        f"{tracks}, written to {summary.out}"
    )
    if summary.interrupted:
        raise KeyboardInterrupt


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
        shard="1/1" if shard is None else shard,
        part_images=PART_IMAGES if part_images is None else part_images,
        compute=compute_on_ray if ray else compute_here,
    )
    if summary.before:
        print(
            f"setmatch: {summary.before} of {summary.images} images were already done",
            file=sys.stderr,
        )
    if summary.unreadable:
        print(
            f"setmatch: {summary.unreadable} of {summary.images} images cannot be read; the column "
            "error says why",
            file=sys.stderr,
        )
    if summary.further_frames:
        print(
            f"setmatch: {summary.further_frames} of {summary.images - summary.before} images are "
            "animations or have several pages, of which the first is read",
            file=sys.stderr,
        )
    print(f"images: {summary.images}, detections: {summary.detections}, written to {out}")
    if summary.unfinished:
        print(f"unfinished shards: {', '.join(summary.unfinished)}")
