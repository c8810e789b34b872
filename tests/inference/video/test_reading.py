"""Frames come upright and with their times, past what is broken; what is no video says why."""

import os
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from clips import (
    SIZE,
    break_packets,
    cut,
    in_thread,
    red_box_frames,
    write_clip,
    write_sound,
    write_unknown_codec,
    write_without_frames,
)
from setmatch.errors import DataError
from setmatch.inference.video.frame_choice import FrameChoice
from setmatch.inference.video.reading import DecodedFrame, VideoReader
from setmatch.inference.video.sources import as_video

UNEVEN = [0.0, 0.04, 0.5, 0.54, 1.5, 3.0, 3.04]


def read(path: Path | str, **choice: float) -> tuple[list[DecodedFrame], VideoReader]:
    reader = VideoReader(as_video(path), FrameChoice(**choice))  # type: ignore[arg-type]
    return list(reader.frames()), reader


def red_box_px(frame: DecodedFrame) -> tuple[int, int, int, int]:
    """The x0, y0, x1, y1 of the red pixels."""
    pixels = frame.pixels().astype(int)
    ys, xs = np.nonzero((pixels[..., 0] > 180) & (pixels[..., 1] < 70))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts", ".avi"])
def test_all_frames_come_in_order_with_their_times(tmp_path: Path, suffix: str):
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    clip = write_clip(tmp_path / f"a{suffix}", red_box_frames(12), codec=codec)
    frames, reader = read(clip)
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(12) / 25, atol=2e-3)
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(red_box_px(frame), (8 + number, 16, 40 + number, 40), atol=1)
    assert (reader.broken, reader.dropped, reader.ended_early) == (0, 0, "")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_uneven_times_are_those_of_the_frames(tmp_path: Path, suffix: str):
    clip = write_clip(tmp_path / f"a{suffix}", red_box_frames(7), UNEVEN)
    frames, reader = read(clip)
    np.testing.assert_allclose([frame.time_s for frame in frames], UNEVEN, atol=2e-3)
    assert reader.ended_early == ""


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_frames_are_turned_upright(tmp_path: Path, quarters: int):
    """As a phone stores a video that it took upright: the pixels lie, and a number says so."""
    upright = red_box_frames(2)
    stored = [np.rot90(frame, -quarters) for frame in upright]
    frames, _ = read(write_clip(tmp_path / "a.mp4", stored, rotation=90 * quarters))
    assert frames[0].pixels().shape == upright[0].shape
    np.testing.assert_allclose(red_box_px(frames[1]), (9, 16, 41, 40), atol=1)


def test_the_sign_of_the_rotation_is_that_of_phones(tmp_path: Path):
    """The matrix of an upright iPhone video, which players turn with the clock."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.set_display_matrix([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30])
        frame = av.VideoFrame.from_ndarray(red_box_frames(1)[0], "rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _ = read(tmp_path / "a.mp4")
    assert frames[0].pixels().shape == (96, 64, 3)
    # Of (x, y) in 96 x 64 pixels, turned with the clock: (64 - y, x).
    np.testing.assert_allclose(red_box_px(frames[0]), (24, 8, 48, 40), atol=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("numbers", [{7}, {6, 7, 8}, {5}, {24}])
def test_broken_packets_in_the_middle_are_counted(tmp_path: Path, suffix: str, numbers: set[int]):
    """Frames that build on them are left out; those from the next key frame on are not."""
    clip = write_clip(tmp_path / f"a{suffix}", red_box_frames(25))
    frames, reader = read(break_packets(clip, tmp_path / f"b{suffix}", numbers))
    # In a transport stream, noise looks like nothing at all; threads lose the error of the last.
    assert reader.broken >= (suffix != ".ts" and numbers != {24})
    next_key = 5 * (max(numbers) // 5 + 1)
    times = [round(25 * frame.time_s) for frame in frames]
    assert times == sorted(set(times))
    assert set(range(min(numbers) - min(numbers) % 5)) <= set(times)
    assert set(range(next_key, 24)) <= set(times)
    assert len(frames) >= 25 - (next_key - min(numbers)) - 1


@pytest.mark.crossed
@pytest.mark.parametrize("fraction", [0.35, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_that_is_cut_off_is_read_as_far_as_it_goes(
    tmp_path: Path, suffix: str, fraction: float
):
    frames = [np.random.default_rng(n).integers(0, 255, (64, 96, 3), np.uint8) for n in range(50)]
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    clip = write_clip(tmp_path / f"a{suffix}", frames, options=options)
    found, reader = read(cut(clip, tmp_path / f"b{suffix}", fraction))
    assert 50 * fraction - 12 <= len(found) < 50
    assert "of 2.0 s can be read" in reader.ended_early


def test_a_clock_that_begins_anew_goes_on(tmp_path: Path):
    """As where a camera restarts, or files are joined."""
    clip = write_clip(tmp_path / "a.ts", red_box_frames(10))
    joined = tmp_path / "b.ts"
    joined.write_bytes(clip.read_bytes() * 2)
    frames, _ = read(joined)
    times = [frame.time_s for frame in frames]
    assert len(times) == 20
    assert all(after > before for before, after in pairwise(times))
    assert times[-1] == pytest.approx(19 / 25, abs=0.05)


def no_video(folder: Path, kind: str) -> Path:
    path = folder / "clip.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "text":
        path.write_text("no video\n" * 100)
    elif kind == "sound":
        write_sound(path)
    elif kind == "cut":
        cut(write_clip(folder / "a.mp4", red_box_frames(20)), path, 0.7)
    elif kind == "no frame":
        path = write_without_frames(folder / "clip.mkv")
    elif kind == "codec":
        clip = write_clip(folder / "a.mkv", red_box_frames(3))
        path = write_unknown_codec(folder / "clip.mkv", clip)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "the file is empty"),
        ("noise", "damaged, cut off, or no video"),
        ("text", "damaged, cut off, or no video"),
        ("cut", "damaged, cut off, or no video"),
        ("sound", "it has no video, but audio"),
        ("no frame", "it ends before the first frame"),
        ("codec", "no decoder"),
        ("folder", "Is a directory"),
        ("missing", "No such file or directory"),
    ],
)
def test_what_is_no_video_says_why(tmp_path: Path, kind: str, reason: str):
    path = no_video(tmp_path, kind)
    with pytest.raises(DataError, match=f"{path}: cannot be read as a video .*{reason}") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_an_absent_camera_and_stream_say_so_without_the_password():
    with pytest.raises(DataError, match=r"camera 97: cannot be read .*connect it, or name another"):
        read("97")
    with pytest.raises(DataError, match=r"rtsp://127.0.0.1:1/x: cannot be read") as error:
        read("rtsp://ann:secret@127.0.0.1:1/x?token=secret")
    assert "secret" not in str(error.value)


def test_a_pipe_is_read_as_it_is_written(tmp_path: Path):
    clip = write_clip(tmp_path / "a.ts", red_box_frames(12))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = in_thread(lambda: pipe.write_bytes(clip.read_bytes()))
    frames, reader = read(pipe)
    writer.join()
    assert [frame.index for frame in frames] == list(range(12))
    assert not reader.live


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({}, list(range(25))),
        ({"every": 10}, [0, 10, 20]),
        ({"fps": 5}, [0, 5, 10, 15, 20]),
        ({"fps": 12.5}, list(range(0, 25, 2))),
        ({"fps": 1}, [0]),
        ({"fps": 100}, list(range(25))),
    ],
)
def test_frames_are_chosen(tmp_path: Path, choice: dict[str, float], chosen: list[int]):
    frames, _ = read(write_clip(tmp_path / "a.mp4", red_box_frames(25)), **choice)
    assert [frame.index for frame in frames] == chosen


def test_frames_of_uneven_times_are_chosen_by_time(tmp_path: Path):
    frames, _ = read(write_clip(tmp_path / "a.mkv", red_box_frames(7), UNEVEN), fps=2)
    assert [frame.index for frame in frames] == [0, 2, 4, 5]
