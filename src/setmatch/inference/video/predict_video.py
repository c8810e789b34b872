"""`predict_video`: detect objects in a video, camera or stream, frame by frame."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from setmatch.argument_types import checked
from setmatch.data.batches.transforms import preprocess
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.image_batches import LoadedImage
from setmatch.inference.options import PredictOptions, ScoreThreshold
from setmatch.inference.pipeline import ImageResult, detect_loaded
from setmatch.inference.tiles.engine import with_tiles
from setmatch.inference.tiles.views import OVERLAP, Tiles, images_at_once
from setmatch.inference.video.detected_frames import detected_frames
from setmatch.inference.video.frame import VideoFrame
from setmatch.inference.video.frame_choice import FrameChoice
from setmatch.inference.video.reading import VideoReader
from setmatch.inference.video.sources import as_video
from setmatch.inference.video.tracker import Tracker
from setmatch.models.detector import Detector


@checked
def predict_video(
    model: Detector | Engine,
    source: str | Path | int,
    *,
    threshold: ScoreThreshold = None,
    every: int = 1,
    fps: float | None = None,
    track: bool = False,
    classes: str | int | Sequence[str | int] | None = None,
    batch_size: int = 4,
    tiles: Tiles = None,
    overlap: float = OVERLAP,
) -> Generator[VideoFrame[ImageResult], None, None]:
    """Return an iterator over the frames of a video, with the detections in each.

    `source` is a video file, the number of a camera, the address of a stream, or a pipe. Each
    `VideoFrame` has an `index`, a `time_s` since the beginning, and `detections`, which are those
    of `predict` for the upright frame. `every` = 3 takes every third frame, and `fps` at most that
    many per second. `track` follows objects: `frame.tracks` has a track for each detection. A model
    with a mask head gives no segments then. `threshold`, `classes`, `tiles` and `overlap` are those
    of `predict` and `predict_folder`.

    The next frames are read while the model runs, a few at a time. Frames of a camera or stream
    that come while the model is busy are dropped. Frames that cannot be decoded are left out.
    Closing the iterator, as leaving a `for` loop does, closes the video.

    Raises DataError for a video that cannot be read or has no frame, ConfigError for values out of
    range, ExtraMissingError without PyAV, or without trackers for `track`, and WeightsError if the
    model's outputs are not finite.
    """
    engine = with_tiles(as_engine(model), tiles, overlap)
    at_once = images_at_once(tiles, batch_size)
    options = PredictOptions.of(engine, threshold, None, at_once, classes)
    reader = VideoReader(as_video(source), FrameChoice(every, fps))
    tracker = Tracker(reader.rate) if track else None
    detector = TensorFrames(engine, options, track)
    return detected_frames(reader, detector, options.batch_size, tracker)


class TensorFrames:
    """A detector or engine that is ready for the frames of videos."""

    def __init__(self, engine: Engine, options: PredictOptions, tracked: bool = False) -> None:
        # Tracks are of boxes, which segments would hide.
        self._engine, self._options = engine, replace(options, with_segments=not tracked)

    def load(self, number: int, pixels: UInt8[np.ndarray, "H W 3"]) -> LoadedImage[Tensor]:
        """Return a frame as the model takes it."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return LoadedImage(number, image, preprocess(image, self._engine.card.preprocessing))

    def detect(self, images: Sequence[LoadedImage[Tensor]]) -> list[ImageResult]:
        """Return the detections in frames of one shape."""
        return [result for _, result in detect_loaded(self._engine, images, self._options)]
