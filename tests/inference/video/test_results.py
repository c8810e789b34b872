"""The command line on videos: results are complete, or complete up to where the run ended."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np
import pytest
from PIL import Image

import setmatch.inference.video.results as results
from clips import break_packets, cut, frame_count, red_box_frames, write_clip, write_sound
from fake_detectors import RedFinder
from setmatch.cli import main
from setmatch.errors import DataError
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.options import PredictOptions
from setmatch.inference.video.frame import VideoFrame
from setmatch.inference.video.frame_choice import FrameChoice
from setmatch.inference.video.predict_video import TensorFrames
from setmatch.inference.video.results import VideoOptions, VideoSummary, write_videos
from setmatch.inference.video.sources import VideoSource, as_video, split_sources
from setmatch.inference.video.writing import VideoWriter

ROOT = Path(__file__).parents[3]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", red_box_frames(25))


def predict(*sources: Path | VideoSource, out: Path, **options: object) -> VideoSummary:
    """Write the results of the detector of red pixels."""
    engine = as_engine(RedFinder())
    frames = TensorFrames(engine, PredictOptions.of(engine, 0.7, None, 4))
    videos = [each if isinstance(each, VideoSource) else as_video(each) for each in sources]
    settings = VideoOptions(**{"progress": False, **options})  # type: ignore[arg-type]
    return write_videos(frames, videos, out, settings)


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]


def files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def test_each_frame_has_a_line_and_is_drawn(clip: Path, tmp_path: Path):
    summary = predict(clip, out=tmp_path / "out")
    assert (summary.videos, summary.frames, summary.detections) == (1, 25, 25)
    assert (summary.tracks, summary.notes, summary.replaced) == (None, (), "")
    assert files(tmp_path / "out") == {"detections.jsonl", "drawn/clip.mp4"}
    for number, line in enumerate(lines(tmp_path / "out")):
        (found,) = line.pop("detections")
        assert line == {
            "file_name": "clip.mp4",
            "frame": number,
            "time_s": round(number / 25, 6),
            "width": 96,
            "height": 64,
        }
        np.testing.assert_allclose(found["bbox"], (8 + number, 16, 32, 24), atol=2)
        assert found["category_name"] == "red"
    with av.open(str(tmp_path / "out/drawn/clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        drawn = list(container.decode(video=0))
    assert len(drawn) == 25
    plain = red_box_frames(25)[20]
    assert np.abs(drawn[20].to_ndarray(format="rgb24").astype(int) - plain).max() > 60


def test_tracks_have_numbers_and_a_row_each(clip: Path, tmp_path: Path):
    summary = predict(clip, out=tmp_path / "out", track=True)
    assert summary.tracks == 1
    numbers = [line["detections"][0]["track"] for line in lines(tmp_path / "out")]
    assert numbers == [None, *[1] * 24]
    (row,) = csv.DictReader((tmp_path / "out/tracks.csv").open(newline=""))
    assert (row["file_name"], row["track"], row["category"]) == ("clip.mp4", "1", "red")
    assert (row["frames"], row["first_s"], row["last_s"]) == ("24", "0.04", "0.96")
    assert float(row["last_x"]) - float(row["first_x"]) == pytest.approx(23, abs=2)
    assert float(row["mean_score"]) > 0.9


def test_images_and_videos_are_written_side_by_side(tmp_path: Path):
    """A folder of both, a video named directly, and one whose suffix says nothing."""
    (tmp_path / "in/deep").mkdir(parents=True)
    write_clip(tmp_path / "in/deep/a.mkv", red_box_frames(3))
    write_clip(tmp_path / "in/a.mp4", red_box_frames(4))
    write_clip(tmp_path / "b.mp4", red_box_frames(2)).rename(tmp_path / "b.recording")
    Image.fromarray(red_box_frames(1)[0]).save(tmp_path / "in/c.png")
    arguments = [str(tmp_path / "in"), str(tmp_path / "b.recording"), "--threshold", "0"]
    out = tmp_path / "out"
    assert main(["predict", "scenes_n", *arguments, "--out", str(out)]) == 0
    drawn = {"drawn/in/a.mp4", "drawn/in/deep/a.mkv.mp4", "drawn/b.recording.mp4", "drawn/c.png"}
    assert files(out) == {*drawn, "detections.json", "detections.csv", "detections.jsonl"}
    names = [line["file_name"] for line in lines(out)]
    assert {name: names.count(name) for name in names} == {
        "in/a.mp4": 4,
        "in/deep/a.mkv": 3,
        "b.recording": 2,
    }


@pytest.mark.parametrize(
    ("name", "content", "is_video"),
    [
        ("a.mp4", b"\0\0\0 ftypisom", True),
        ("a.jpg", b"\0\0\0 ftypisom", True),
        ("a.heic", b"\0\0\0 ftypheic", False),
        ("a.mp4", b"\xff\xd8\xff\xe0 no video, but nobody can tell", True),
        ("a.png", b"\x89PNG", False),
        ("a", b"\x1aE\xdf\xa3", True),
        ("a", b"RIFF\0\0\0\0AVI LIST", True),
        ("a", b"RIFF\0\0\0\0WEBPVP8 ", False),
        ("a.ts", b"export const a = 1", True),
        ("a.txt", b"text", False),
    ],
)
def test_content_and_suffix_say_what_is_a_video(
    tmp_path: Path, name: str, content: bytes, is_video: bool
):
    (tmp_path / name).write_bytes(content)
    images, videos = split_sources([tmp_path / name])
    assert (len(images), len(videos)) == ((0, 1) if is_video else (1, 0))


@pytest.mark.parametrize(("scheme", "host"), [("file", ""), ("FILE", ""), ("file", "localhost")])
def test_the_address_of_a_file_is_the_file(tmp_path: Path, scheme: str, host: str):
    """It is no stream, of which frames would be dropped."""
    clip, image = tmp_path / "my clip%.mp4", tmp_path / "a.png"
    clip.write_bytes(b"")
    image.write_bytes(b"")
    clip_address, image_address = (f"{scheme}://{host}{quote(str(each))}" for each in (clip, image))
    assert as_video(clip_address) == VideoSource(str(clip), "file")
    images, videos = split_sources([clip_address, image_address])
    assert ([str(each) for each in images], videos) == ([str(image)], [as_video(clip)])


@pytest.mark.parametrize(
    ("source", "kind", "name", "file_name"),
    [
        ("0", "camera", "camera 0", "camera_0"),
        ("rtsp://u:p@host:554/a/b?c=d", "stream", "rtsp://host:554/a/b", "host_554_a_b"),
        ("HTTP://host/x.m3u8", "stream", "http://host/x.m3u8", "host_x.m3u8"),
        ("/dev/null", "camera", "camera /dev/null", "camera_dev_null"),
    ],
)
def test_sources_that_are_no_files_have_names(source: str, kind: str, name: str, file_name: str):
    video = as_video(source)
    assert (video.kind, video.name, video.file_name) == (kind, name, file_name)
    assert split_sources([source]) == ([], [video])


def test_videos_that_would_be_drawn_under_one_name_get_others(tmp_path: Path):
    write_clip(tmp_path / "a.mp4", red_box_frames(2))
    os.link(tmp_path / "a.mp4", tmp_path / "a")
    (tmp_path / "b").mkdir()
    os.link(tmp_path / "a.mp4", tmp_path / "b/a.mp4")
    sources = [tmp_path / "a", tmp_path / "a.mp4", tmp_path / "b/a.mp4"]
    predict(*sources, out=tmp_path / "out")
    assert files(tmp_path / "out") == {
        "detections.jsonl",
        *("drawn/a.mp4", "drawn/a_.mp4", "drawn/b/a.mp4"),
    }


def test_a_video_that_cannot_be_read_does_not_take_the_others_along(clip: Path, tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    sound = write_sound(tmp_path / "sound.mp4")
    summary = predict(tmp_path / "empty.mp4", clip, sound, out=tmp_path / "out")
    assert (summary.videos, summary.frames) == (1, 25)
    empty, silent = summary.notes
    assert "empty.mp4: cannot be read as a video (the file is empty)" in empty
    assert "sound.mp4: cannot be read as a video (it has no video, but audio)" in silent


def test_without_a_readable_video_no_file_is_written(tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"none of the 2 videos could be read; the first: .*a\.mp4"):
        predict(tmp_path / "a.mp4", tmp_path / "b.mp4", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_broken_and_missing_parts_are_said(tmp_path: Path):
    frames = [np.random.default_rng(n).integers(0, 255, (64, 96, 3), np.uint8) for n in range(50)]
    whole = write_clip(tmp_path / "a.mkv", frames)
    broken = break_packets(whole, tmp_path / "broken.mkv", {7, 8})
    short = cut(whole, tmp_path / "short.mkv", 0.5)
    first, second = predict(broken, short, out=tmp_path / "out", drawn=False).notes
    assert "broken.mkv: 2 broken packets, whose frames are left out" in first
    assert "short.mkv: ends early: " in second


def test_a_second_run_says_what_it_replaces(clip: Path, tmp_path: Path):
    out = tmp_path / "out"
    predict(clip, out=out, track=True)
    assert predict(clip, out=out).replaced == (
        "replaced the results of an earlier run, of which there still are tracks.csv"
    )
    (out / "tracks.csv").unlink()
    assert predict(clip, out=out).replaced == "replaced the results of an earlier run"


def test_results_of_an_earlier_run_are_no_sources(clip: Path, tmp_path: Path):
    for _ in range(2):
        summary = predict(*split_sources([tmp_path])[1], out=tmp_path / "out")
        assert summary.videos == 1


def test_another_encoder_is_said(clip: Path, tmp_path: Path):
    (note,) = predict(clip, out=tmp_path / "out", encoders=("nothing", "mpeg4")).notes
    assert "drawn as mpeg4, because there is no encoder for H.264" in note
    assert frame_count(tmp_path / "out/drawn/clip.mp4") == 25


def test_without_any_encoder_nothing_is_written(clip: Path, tmp_path: Path):
    with pytest.raises(DataError, match="--no-images"):
        predict(clip, out=tmp_path / "out", encoders=("nothing",))
    assert not (tmp_path / "out").exists() or files(tmp_path / "out") == set()
    assert predict(clip, out=tmp_path / "out", encoders=("nothing",), drawn=False).frames == 25


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_was_done_until_the_end_is_kept(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    """The 11th frame fails, of 25: the lines and the drawn video have the ten before it."""
    to_dict = VideoFrame.to_dict

    def fails(frame: VideoFrame) -> dict:
        if frame.index == 10:
            raise error
        return to_dict(frame)

    monkeypatch.setattr(VideoFrame, "to_dict", fails)
    out = tmp_path / "out"
    if error is KeyboardInterrupt:
        summary = predict(clip, out=out, track=True)
        assert summary.interrupted
        assert summary.frames == 10
    else:
        with pytest.raises(OSError, match="No space left") as full:
            predict(clip, out=out, track=True)
        assert full.value.filename == str(out)
    assert files(out) == {"detections.jsonl", "drawn/clip.mp4", "tracks.csv"}
    assert [line["frame"] for line in lines(out)] == list(range(10))
    assert frame_count(out / "drawn/clip.mp4") == 10
    (row,) = csv.DictReader((out / "tracks.csv").open(newline=""))
    assert row["frames"] == "9"


def test_a_disk_that_is_full_when_the_video_ends_costs_no_lines(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The encoder keeps frames until it is closed, which is where this disk is full."""

    def fails(video: VideoWriter) -> None:
        close(video)
        raise OSError(28, "No space left on device")

    close = VideoWriter.close
    monkeypatch.setattr(VideoWriter, "close", fails)
    out = tmp_path / "out"
    with pytest.raises(OSError, match="No space left") as full:
        predict(clip, out=out, track=True)
    assert full.value.filename == str(out)
    assert [line["frame"] for line in lines(out)] == list(range(25))
    (row,) = csv.DictReader((out / "tracks.csv").open(newline=""))
    assert row["frames"] == "24"


def test_an_end_before_the_first_frame_leaves_the_earlier_results(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    predict(clip, out=out)
    before = {name: (out / name).read_bytes() for name in files(out)}

    def fails(frame: VideoFrame) -> dict:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoFrame, "to_dict", fails)
    with pytest.raises(OSError, match="No space left"):
        predict(clip, out=out)
    assert {name: (out / name).read_bytes() for name in files(out)} == before


def test_a_pipe_grows_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who follows an endless source sees its lines as they come."""
    clip = write_clip(tmp_path / "a.ts", red_box_frames(12))
    pipe, out, seen = tmp_path / "pipe", tmp_path / "out", []
    os.mkfifo(pipe)
    to_dict = VideoFrame.to_dict

    def followed(frame: VideoFrame) -> dict:
        if (out / "detections.jsonl").exists():
            seen.append(len(lines(out)))
        return to_dict(frame)

    monkeypatch.setattr(VideoFrame, "to_dict", followed)
    writer = subprocess.Popen(
        [sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write(open({str(clip)!r}, 'rb').read())"]
    )
    assert predict(pipe, out=out).frames == 12
    assert writer.wait(60) == 0
    assert seen == list(range(12))
    assert files(out) == {"detections.jsonl", "drawn/pipe.mp4"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--track"], "are for videos"),
        (["a.png", "--every", "2"], "are for videos"),
        (["clip.mp4", "--every", "2", "--fps", "5"], "choose one"),
        (["clip.mp4", "--fps", "0"], "fps = 0"),
        (["none.mp4"], "none.mp4: no such file or folder"),
        (["rtsp://127.0.0.1:1/x"], "rtsp://127.0.0.1:1/x: cannot be read"),
        (["98"], "camera 98: cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
):
    Image.fromarray(red_box_frames(1)[0]).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "scenes_n", *arguments, "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_frames_are_chosen_and_summed_up(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    arguments = [str(clip), "--every", "5", "--track", "--no-images", "--out", str(out)]
    assert main(["predict", "scenes_n", *arguments]) == 0
    assert [line["frame"] for line in lines(out)] == [0, 5, 10, 15, 20]
    assert files(out) == {"detections.jsonl", "tracks.csv"}
    assert "videos: 1, frames: 5, detections: " in capsys.readouterr().out
    assert FrameChoice(5).rate_of(25) == 5
    assert results.LINES in files(out)


@pytest.mark.campaign
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_leaves_a_playable_video_and_whole_lines(tmp_path: Path, presses: int):
    """A process of its own, interrupted at several moments."""
    clip = write_clip(tmp_path / "clip.mp4", red_box_frames(60, (320, 240)) * 20)
    for attempt in range(4):
        out = tmp_path / f"out{attempt}"
        command = [sys.executable, "-m", "setmatch", "predict", "scenes_n", str(clip)]
        process = subprocess.Popen(
            [*command, "--out", str(out), "--track"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not list(out.glob(".writing-*")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.5 * attempt)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        printed, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert presses > 1 or errors.splitlines()[-1] == "setmatch: interrupted"
        if (out / "detections.jsonl").exists():
            count = len(lines(out))
            assert abs(frame_count(out / "drawn/clip.mp4") - count) <= 1
            assert f"frames: {count}," in printed
            assert not list(out.glob(".writing-*"))
