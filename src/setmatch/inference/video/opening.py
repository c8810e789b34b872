"""Open a file, pipe, camera or stream by PyAV, and say in words why that fails."""

import os
import select
import sys
import threading
from contextlib import suppress
from typing import Any

from PIL import Image

from setmatch.data.images.unreadable import UnreadableError, UnreadableFile
from setmatch.files.reading import require_regular
from setmatch.inference.video.pyav import pyav
from setmatch.inference.video.sources import VideoSource

_SILENCE_S = 10.0  # of a stream or camera, after which it counts as ended
_POLL_S = 0.1
_CAMERAS = {  # by sys.platform: the format of FFmpeg, and what it calls a camera
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}"),
    "win32": ("vfwcap", "{}"),
}
_ADVICE = {
    "stream": "check the address, and that it can be reached",
    "pipe": "check the program that writes it",
    "file": "replace or remove the file",
}


def open_video(source: VideoSource, closed: threading.Event) -> Any:
    """Return an open container of PyAV; a pipe ends as soon as `closed` is set.

    Raises DataError if it cannot be opened, ExtraMissingError without PyAV.
    """
    av = pyav()
    file: Any = source.address
    keywords: dict[str, Any] = {}
    try:
        if source.kind == "camera":
            keywords["format"], name = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
            file = name.format(file) if file.isdecimal() else file
        elif source.kind == "pipe":
            file = _Pipe(file, closed)
        elif source.kind == "file":
            require_regular(file)
            file = os.path.abspath(file)  # so that no name looks like an address
        if source.kind in ("camera", "stream"):
            keywords["timeout"] = _SILENCE_S
        if source.address.lower().startswith("rtsp"):
            # TCP first, which loses no packets; some cameras have UDP alone.
            keywords["options"] = {"rtsp_flags": "prefer_tcp"}
        return av.open(file, mode="r", **keywords)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise unreadable(source, reason_of(error, source)) from None


def video_stream(container: Any, source: VideoSource) -> Any:
    """Return the first stream of images that move; raises DataError if none can be decoded."""
    covers = pyav().stream.Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & covers]
    if not streams:
        kinds = ", ".join(sorted({each.type for each in container.streams}))
        raise unreadable(source, f"it has no video, but {kinds}" if kinds else "it is empty")
    decoder = streams[0].codec_context
    if decoder is None:
        raise unreadable(
            source,
            "the installed FFmpeg has no decoder for it",
            "convert it to H.264, or install another build of PyAV",
        )
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and decoder.width * decoder.height > limit:
        size = f"{decoder.width}×{decoder.height} pixels, width × height"
        advice = "make it smaller, or allow more with --max-pixels"
        raise unreadable(source, f"{size}; the limit is {limit:,} pixels", advice)
    return streams[0]


def unreadable(source: VideoSource, reason: str, advice: str | None = None) -> UnreadableError:
    """Return the error for a video that cannot be read."""
    if advice is None:
        connect = f"connect it, or name another; there are: {_cameras()}"
        advice = _ADVICE.get(source.kind, connect)
    return UnreadableError(UnreadableFile(source.name, reason, advice, "a video"))


def reason_of(error: Exception, source: VideoSource) -> str:
    """Return the reason in words, without the address, which may hold a password."""
    av = pyav()
    if isinstance(error, av.InvalidDataError):
        with suppress(OSError):
            if source.kind == "file" and os.path.getsize(source.address) == 0:
                return "the file is empty"
        return "damaged, cut off, or no video"
    if isinstance(error, av.EOFError):
        return "it ends before the first frame"
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {_SILENCE_S:g} s"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason)


class _Pipe:
    """A pipe as a file that ends when it is closed, even while it waits for its writer."""

    def __init__(self, address: str, closed: threading.Event) -> None:
        self._closed = closed
        # Without O_NONBLOCK, this would wait for a writer, whatever is closed meanwhile.
        self._descriptor = os.open(address, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while not self._closed.is_set():
            ready, _, _ = select.select([self._descriptor], [], [], _POLL_S)
            if ready:
                return os.read(self._descriptor, size)
        return b""

    def close(self) -> None:
        """Close the pipe."""
        with suppress(OSError):
            os.close(self._descriptor)


def _cameras() -> str:
    """Return the cameras that the system lists."""
    try:
        names = sorted(each for each in os.listdir("/dev") if each.startswith("video"))
    except OSError:
        names = []
    return ", ".join(f"/dev/{each}" for each in names) or "none"
