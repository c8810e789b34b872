"""Detect objects in the frames of a video, while the next frames are read and prepared."""

from collections.abc import Generator, Sequence
from itertools import groupby
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from setmatch.inference.image_batches import LoadedImage
from setmatch.inference.video.frame import AnyDetections, FrameDetections, VideoFrame
from setmatch.inference.video.read_ahead import ReadAhead
from setmatch.inference.video.reading import DecodedFrame, VideoReader
from setmatch.inference.video.tracker import Tracker

Detected = TypeVar("Detected", bound=FrameDetections, covariant=True)
_Loaded = tuple[DecodedFrame, LoadedImage[Any]]


@runtime_checkable
class FrameDetector(Protocol[Detected]):
    """A model that is ready for frames."""

    def load(self, number: int, pixels: UInt8[np.ndarray, "H W 3"]) -> LoadedImage[Any]:
        """Return a frame as the model takes it."""

    def detect(self, images: Sequence[LoadedImage[Any]]) -> Sequence[Detected]:
        """Return the detections in frames of one shape."""


def detected_frames(
    reader: VideoReader,
    detector: FrameDetector[AnyDetections],
    batch_size: int,
    tracker: Tracker | None = None,
) -> Generator[VideoFrame[AnyDetections], None, None]:
    """Yield the chosen frames of a video in their order, with the detections in each.

    Frames are read in one thread and prepared in another, a batch ahead. Live input has batches of
    one frame; frames that come while the model is busy are dropped, and counted in
    `reader.dropped`. Closing the generator closes the video and ends the threads.
    """
    at_once = 1 if reader.live else batch_size
    decoded = ReadAhead(reader.frames(), at_once, "decode video", drops=reader.live)
    loaded = ReadAhead(_loaded(decoded, detector), at_once, "prepare frames")
    with decoded, loaded:
        try:
            while batch := loaded.take(at_once):
                reader.dropped = decoded.dropped
                for _, group in groupby(batch, lambda each: tuple(each[1].pixels.shape)):
                    frames = list(group)
                    found = detector.detect([image for _, image in frames])
                    for (frame, _), detections in zip(frames, found, strict=True):
                        tracks = tracker.update(detections, frame.time_s) if tracker else None
                        yield VideoFrame(frame.index, frame.time_s, detections, tracks)
            reader.dropped = decoded.dropped
        finally:
            reader.stop()
            decoded.stop()


def _loaded(
    frames: ReadAhead[DecodedFrame], detector: FrameDetector[AnyDetections]
) -> Generator[_Loaded, None, None]:
    while taken := frames.take(1):
        yield taken[0], detector.load(taken[0].index, taken[0].pixels())
