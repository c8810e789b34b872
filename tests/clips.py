"""Write video clips whose frames, times and objects are known."""

import threading
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np

from fake_detectors import red_box_image

TICKS = 1000  # a second, of clips with uneven times
SIZE = (96, 64)  # width, height


def red_box_frames(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Gray frames with a red box of 32 x 24 pixels that moves a pixel to the right each time."""
    width, height = size
    return [
        red_box_image(height, width, (8 + number, 16, 40 + number, 40)).permute(1, 2, 0).numpy()
        for number in range(count)
    ]


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    times: Sequence[float] | None = None,
    rotation: int = 0,
    codec: str = "libx264",
    key_every: int = 5,
    options: dict[str, str] | None = None,
) -> Path:
    """Write RGB frames as a video of 25 frames a second, or with these times in seconds.

    `rotation` is against the clock, in degrees, what a player turns the frames by.
    """
    ticks = 25 if times is None else TICKS
    quality = {"crf": "10", "bf": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=quality)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, ticks)
        stream.codec_context.gop_size = key_every
        if rotation:
            stream.set_display_rotation(rotation)
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            time_s = number / 25 if times is None else times[number]
            frame.pts, frame.time_base = round(time_s * ticks), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def break_packets(clip: Path, out: Path, numbers: Iterable[int]) -> Path:
    """Copy a clip, with noise in place of these packets."""
    broken = set(numbers)
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            copy = packet
            if number in broken:
                copy = av.Packet(Random(number).randbytes(packet.size))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe = packet.is_keyframe
            copy.stream = stream
            target.mux(copy)
    return out


def cut(clip: Path, out: Path, fraction: float) -> Path:
    """Copy the first part of a file."""
    data = clip.read_bytes()
    out.write_bytes(data[: round(len(data) * fraction)])
    return out


def write_sound(path: Path) -> Path:
    """Write a file with sound alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_without_frames(path: Path) -> Path:
    """Write the header of a video, and nothing else."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        container.start_encoding()
    return path


def write_unknown_codec(path: Path, clip: Path) -> Path:
    """Copy a Matroska clip, and name a codec in it that nobody has."""
    data = clip.read_bytes()
    assert data.count(b"V_MPEG4/ISO/AVC") == 1
    path.write_bytes(data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))
    return path


def in_thread(work: Any, *arguments: Any) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))
