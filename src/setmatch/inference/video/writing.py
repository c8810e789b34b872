"""Encode frames as a video file that can be played as far as it was written."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from setmatch.errors import DataError
from setmatch.inference.video.pyav import pyav

# H.264 first, by software before what needs special hardware; then what every build has.
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "mpeg4")
H264 = ENCODERS[:-1]
_OPTIONS = {"libx264": {"preset": "veryfast", "crf": "23", "bf": "0"}}
_BITS_PER_PIXEL = 0.15  # of encoders without a constant quality
_TICKS = 60_000  # a second: frames of all usual rates, also 30000/1001, last a whole number
_KEY_EVERY_S = 2.0  # what a kill loses at most
_BT709, _LIMITED = 1, 1  # colors and range, as players expect them in H.264


class VideoWriter:
    """An MP4 file that grows frame by frame; until it is closed, it is played in fragments.

    The first frame decides the size; others are fitted into it. `encoder` is the first of
    `encoders` that works here. Raises DataError if none does, and OSError if
    the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        rate: float,
        encoders: tuple[str, ...] = ENCODERS,
    ) -> None:
        width, height = size
        # The color of two by two pixels is stored together.
        self._size = width, height
        self._stored = width + width % 2, height + height % 2
        self.encoder = _working(encoders, self._stored)
        self._container = pyav().open(str(path), "w", format="mp4", options=_fragments())
        self._last = -1
        try:
            self._stream = self._add_stream(rate)
        except BaseException:
            self._container.close()
            raise

    def write(self, image: Image.Image, time_s: float) -> None:
        """Add a frame to be shown `time_s` seconds after the beginning; times ascend."""
        if image.size != self._size:
            image = ImageOps.pad(image, self._size)
        pixels = np.asarray(image)
        extra = [
            (0, stored - given) for stored, given in zip(self._stored, self._size, strict=True)
        ]
        if any(after for _, after in extra):
            pixels = np.pad(pixels, (extra[1], extra[0], (0, 0)), mode="edge")
        frame = pyav().VideoFrame.from_ndarray(pixels, "rgb24")
        if self.encoder in H264:
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        self._last = max(round(time_s * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left, and close the file."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def _add_stream(self, rate: float) -> Any:
        options = _OPTIONS.get(self.encoder, {})
        stream = self._container.add_stream(self.encoder, rate=_fraction(rate), options=options)
        _prepare(stream.codec_context, self.encoder, self._stored, rate)
        return stream


def _working(encoders: tuple[str, ...], size: tuple[int, int]) -> str:
    """Return the first encoder that this build of FFmpeg and this machine have."""
    av = pyav()
    for name in encoders:
        with suppress(av.FFmpegError, ValueError):
            context = av.CodecContext.create(name, "w")
            context.framerate = _fraction(1.0)
            _prepare(context, name, size, 1.0)
            context.options = _OPTIONS.get(name, {})
            context.open()
            return name
    raise DataError(
        f"no video of {size[0]}×{size[1]} pixels can be written: the installed FFmpeg has none of "
        f"the encoders {', '.join(encoders)} for it; install another build of PyAV, or write no "
        "video with --no-images"
    )


def _prepare(context: Any, encoder: str, size: tuple[int, int], rate: float) -> None:
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, _TICKS)
    context.gop_size = max(round(_KEY_EVERY_S * rate), 1)
    if encoder in H264:
        context.colorspace, context.color_range = _BT709, _LIMITED
    if encoder not in _OPTIONS:
        context.bit_rate = max(round(_BITS_PER_PIXEL * size[0] * size[1] * max(rate, 10)), 100_000)


def _fraction(rate: float) -> Fraction:
    return Fraction(rate).limit_denominator(1001)


def _fragments() -> dict[str, str]:
    """Return the options by which an unfinished MP4 file can be played."""
    has_hybrid = pyav().library_versions["libavformat"] >= (61, 7)  # of FFmpeg 7.1
    movflags = "hybrid_fragmented" if has_hybrid else "frag_keyframe+empty_moov"
    return {"movflags": movflags, "flush_packets": "1"}
