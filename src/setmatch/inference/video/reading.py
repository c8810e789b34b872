"""Decode a video frame by frame: upright, with its time, past what is broken."""

import errno
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from setmatch.inference.video.frame_choice import FrameChoice
from setmatch.inference.video.opening import open_video, reason_of, unreadable, video_stream
from setmatch.inference.video.pyav import pyav
from setmatch.inference.video.sources import VideoSource

_USUAL_RATE = 25.0  # frames a second, where a video does not say
_MOST_FRAMES_A_SECOND = 240.0  # more is the time base of a format
_MISSING = 0.05  # of the length, from which on a video ends early
_ENDLESS = ("mpjpeg",)  # formats without an end, which FFmpeg takes for an error
_FINITE_STREAMS = ("http://", "https://", "ftp://")


@dataclass(frozen=True)
class DecodedFrame:
    """A frame as the decoder returns it.

    `index` counts the frames that could be decoded, from 0; `time_s` is since the beginning.
    """

    index: int
    time_s: float
    raw: Any = field(repr=False)  # av.VideoFrame

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """Return the frame as RGB, turned upright by the rotation that the video stores."""
        pixels = self.raw.to_ndarray(format="rgb24")
        quarters = round(self.raw.rotation / 90) % 4  # against the clock
        return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels


class VideoReader:
    """An open video, whose chosen frames can be read once.

    Packets that cannot be decoded are left out, and counted in `broken`. Frames of `live` input
    come by the clock; those that nobody took in time are counted in `dropped`. `duration_s` is None
    if the video does not say. After the last frame, `ended_early` says why it was not the last one
    of the video; it is empty for a whole video. Raises DataError if there is no video to read, and
    ExtraMissingError without PyAV.
    """

    def __init__(self, source: VideoSource, choice: FrameChoice) -> None:
        self.source, self.choice = source, choice
        self.broken, self.dropped, self.ended_early = 0, 0, ""
        self._stopped = threading.Event()
        self._container = open_video(source, self._stopped)
        try:
            self._stream = video_stream(self._container, source)
            # Now, since what a closed video says of itself is undefined.
            self.live = _is_live(source, self._container)
            self.duration_s = None if self.live else _duration_s(self._container, self._stream)
            self._rate = _rate(self._stream)
            # Threads for whole frames are faster, but each keeps a frame back.
            self._stream.thread_type = "SLICE" if self.live else "AUTO"
        except BaseException:
            self._container.close()
            raise

    @property
    def rate(self) -> float:
        """About how many frames a second are chosen."""
        return self.choice.rate_of(self._rate)

    def frames(self) -> Generator[DecodedFrame, None, None]:
        """Yield the chosen frames by ascending time, and close the video at the end."""
        takes, step_s = self.choice.start(), 1 / self._rate
        start, base = self._stream.start_time, self._stream.time_base
        start_s = None if start is None or base is None else float(start * base)
        index, time_s, end_s = 0, -step_s, 0.0
        try:
            for raw in self._decoded():
                stored_s = raw.time
                if stored_s is None:
                    time_s += step_s
                else:
                    start_s = stored_s if start_s is None else start_s
                    if index and stored_s - start_s <= time_s:  # the source's clock began anew
                        start_s = stored_s - time_s - step_s
                    time_s = max(stored_s - start_s, 0.0)
                end_s = time_s + float((raw.duration or 0) * (raw.time_base or 0) or step_s)
                if takes(index, time_s):
                    yield DecodedFrame(index, time_s, raw)
                index += 1
            if not self._stopped.is_set():
                self._compare_with_duration(end_s)
                if index == 0:
                    raise unreadable(self.source, self.ended_early or "it has no frame")
        finally:
            self._container.close()

    def stop(self) -> None:
        """Let `frames` end soon, from any thread."""
        self._stopped.set()

    def _decoded(self) -> Iterator[Any]:
        errors = pyav().FFmpegError
        for packet in self._packets():
            try:
                frames = packet.decode()
            except errors:
                self.broken += 1
                continue
            yield from frames

    def _packets(self) -> Iterator[Any]:
        """Yield the packets, past broken ones, until the end or `stop`."""
        av = pyav()
        packets, has_advanced = self._container.demux(self._stream), False
        while not self._stopped.is_set():
            try:
                packet = next(packets, None)
            except av.InvalidDataError:
                self.broken += 1
                if not has_advanced:  # it is the same place again
                    self.ended_early = "the rest is damaged"
                    return
                packets, has_advanced = self._container.demux(self._stream), False
            except (av.FFmpegError, OSError) as error:
                if error.errno == errno.EIO and self._container.format.name in _ENDLESS:
                    return  # the server closed the connection
                self.ended_early = reason_of(error, self.source)
                return
            else:
                if packet is None:
                    return
                has_advanced = True
                yield packet

    def _compare_with_duration(self, end_s: float) -> None:
        whole_s = self.duration_s
        if self.ended_early or whole_s is None:
            return
        if whole_s - end_s > max(_MISSING * whole_s, 2 / self._rate):
            self.ended_early = f"{end_s:.1f} s of {whole_s:.1f} s can be read"


def _is_live(source: VideoSource, container: Any) -> bool:
    if source.address.lower().startswith(_FINITE_STREAMS):
        return container.duration is None
    return source.kind in ("camera", "stream")


def _duration_s(container: Any, stream: Any) -> float | None:
    """Return how long a video is; None if it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    only = len(container.streams) == 1  # else, the sound may be longer
    return container.duration / pyav().time_base if only and container.duration else None


def _rate(stream: Any) -> float:
    rate = float(stream.average_rate or _USUAL_RATE)
    return rate if 0 < rate <= _MOST_FRAMES_A_SECOND else _USUAL_RATE
