"""Live input: the newest frames are seen, what is lost is counted, and a stream may end."""

import json
import threading
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

import setmatch as sm
from clips import red_box_frames, write_clip
from fake_detectors import RedFinder
from setmatch.errors import DataError
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.options import PredictOptions
from setmatch.inference.video.predict_video import TensorFrames
from setmatch.inference.video.results import VideoOptions, write_videos
from setmatch.inference.video.sources import as_video
from stream_servers import mjpeg_server, rtsp_server, tcp_server

FRAMES = 40


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.ts", red_box_frames(FRAMES))


class SlowAtFirst(RedFinder):
    """A model that is busy with its first frame until all others have come."""

    def forward(self, batch: sm.Batch) -> tuple[sm.PredictionGroup, ...]:
        if not self.shapes:
            for thread in threading.enumerate():
                if thread.name == "decode video":
                    thread.join(60)
                    assert not thread.is_alive()
        return super().forward(batch)


def test_frames_that_come_while_the_model_is_busy_are_dropped_and_counted(
    clip: Path, tmp_path: Path
):
    engine = as_engine(SlowAtFirst())
    detector = TensorFrames(engine, PredictOptions.of(engine, 0.7, None, 4))
    with tcp_server(clip) as address:
        options = VideoOptions(progress=False)
        summary = write_videos(detector, [as_video(address)], tmp_path / "out", options)
    assert summary.frames <= 6
    (note,) = summary.notes
    dropped = FRAMES - summary.frames
    assert f"{dropped} of {FRAMES} frames dropped, because they come faster than the model" in note
    text = (tmp_path / "out/detections.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert rows[-1]["frame"] == FRAMES - 1  # the newest is always seen
    (drawn,) = (tmp_path / "out/drawn").iterdir()
    assert drawn.name == f"{as_video(address).file_name}.mp4"


def test_a_stream_that_ends_is_the_end_and_no_error(clip: Path):
    with tcp_server(clip) as address:
        frames = list(sm.predict_video(RedFinder(), address, threshold=0.7))
    assert frames[-1].index == FRAMES - 1
    x = 8 + FRAMES - 1
    assert torch.allclose(
        frames[-1].detections.xyxy_px[0], torch.tensor([x, 16.0, x + 32, 40]), atol=2
    )


@pytest.mark.parametrize(
    "ending",
    [
        b"",
        b"--next--\r\n",
        b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: 900\r\n\r\n\xff\xd8",
    ],
    ids=["closed", "terminated", "within an image"],
)
def test_a_camera_that_closes_its_connection_is_the_end_of_the_stream(
    tmp_path: Path, ending: bytes
):
    """Motion JPEG has no end of its own, so that FFmpeg takes every end for an error."""
    images = []
    for frame in red_box_frames(FRAMES):
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG")
        images.append(file.getvalue())
    engine = as_engine(RedFinder())
    detector = TensorFrames(engine, PredictOptions.of(engine, 0.7, None, 4))
    with mjpeg_server(images, ending) as address:
        options = VideoOptions(progress=False)
        summary = write_videos(detector, [as_video(address)], tmp_path / "out", options)
    assert 0 < summary.frames <= FRAMES
    assert "early" not in "".join(summary.notes)
    lines = (tmp_path / "out/detections.jsonl").read_text().splitlines()
    assert len(lines) == summary.frames


def test_a_camera_that_sends_no_image_is_said(tmp_path: Path):
    with mjpeg_server([]) as address, pytest.raises(DataError, match="cannot be read as a video"):
        list(sm.predict_video(RedFinder(), address))


def test_a_stream_of_rtsp_is_read(clip: Path):
    with rtsp_server(clip) as address:
        frames = list(sm.predict_video(RedFinder(), address, threshold=0.7))
    assert frames
    assert all(len(frame.detections) == 1 for frame in frames)
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})


def test_a_camera_that_has_udp_alone_is_read(clip: Path):
    """It refuses to send inside the connection, which is asked for first."""
    with rtsp_server(clip, udp_alone=True) as address:
        frames = sm.predict_video(RedFinder(), address, threshold=0.7)
        assert len(next(frames).detections) == 1
        frames.close()


def test_leaving_a_stream_that_goes_on_ends_it(clip: Path):
    """The server still holds the connection, and sends nothing more."""
    left = threading.Event()
    with tcp_server(clip, before_end=lambda: left.wait(60)) as address:
        frames = sm.predict_video(RedFinder(), address, threshold=0.7)
        assert next(frames).index >= 0
        closing = threading.Thread(target=frames.close)
        closing.start()
        left.set()
        closing.join(60)
    assert not closing.is_alive()
    assert "decode video" not in {each.name for each in threading.enumerate()}
