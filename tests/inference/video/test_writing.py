"""What is written can be played: every size, uneven times, another encoder, a kill."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from setmatch.errors import DataError
from setmatch.inference.video.writing import ENCODERS, H264, VideoWriter

COLOR = (200, 30, 90)


def written(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("encoders", [ENCODERS, ("mpeg4",)])
@pytest.mark.parametrize("size", [(64, 48), (65, 33), (1, 1), (16, 300)])
def test_frames_keep_their_color_and_size(
    tmp_path: Path, size: tuple[int, int], encoders: tuple[str, ...]
):
    """Odd sides get one pixel more."""
    writer = VideoWriter(tmp_path / "a.mp4", size, 25, encoders)
    for number in range(3):
        writer.write(Image.new("RGB", size, COLOR), number / 25)
    writer.close()
    frames = written(tmp_path / "a.mp4")
    assert len(frames) == 3
    for frame in frames:
        assert (frame.width, frame.height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        pixels = frame.to_ndarray(format="rgb24").reshape(-1, 3)
        np.testing.assert_allclose(np.median(pixels, axis=0), COLOR, atol=6)


@pytest.mark.parametrize("times", [[0, 1 / 29.97, 2 / 29.97], [0, 0.5, 0.51, 7.0], [0, 0, 0]])
def test_times_are_kept(tmp_path: Path, times: list[float]):
    writer = VideoWriter(tmp_path / "a.mp4", (64, 48), 29.97)
    for time_s in times:
        writer.write(Image.new("RGB", (64, 48), COLOR), time_s)
    writer.close()
    found = [frame.time for frame in written(tmp_path / "a.mp4")]
    np.testing.assert_allclose(found, times, atol=1e-3)
    assert sorted(set(found)) == found


def test_a_frame_of_another_size_is_fitted_in(tmp_path: Path):
    """As of a camera that is turned while it runs: black beside it, and never stretched."""
    writer = VideoWriter(tmp_path / "a.mp4", (64, 48), 25)
    for number, size in enumerate([(64, 48), (24, 48), (128, 96)]):
        writer.write(Image.new("RGB", size, COLOR), number / 25)
    writer.close()
    first, tall, large = (f.to_ndarray(format="rgb24") for f in written(tmp_path / "a.mp4"))
    assert first.shape == tall.shape == large.shape
    assert tall[24, 4].max() < 40
    np.testing.assert_allclose(tall[24, 32], COLOR, atol=8)
    np.testing.assert_allclose(large[4, 4], COLOR, atol=8)


def test_a_missing_encoder_is_passed_over(tmp_path: Path):
    writer = VideoWriter(tmp_path / "a.mp4", (64, 48), 25, ("nothing", "mpeg4"))
    writer.write(Image.new("RGB", (64, 48), COLOR), 0)
    writer.close()
    assert writer.encoder == "mpeg4"
    assert writer.encoder not in H264


def test_no_encoder_at_all_is_an_error_that_names_them(tmp_path: Path):
    with pytest.raises(DataError, match=r"64×48 pixels .* none of the encoders nothing, nobody"):
        VideoWriter(tmp_path / "a.mp4", (64, 48), 25, ("nothing", "nobody"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_closed_can_be_played(tmp_path: Path):
    """As after a kill: all but the last seconds are there."""
    writer = VideoWriter(tmp_path / "a.mp4", (64, 48), 5)
    for number in range(64):
        writer.write(Image.effect_noise((64, 48), 90).convert("RGB"), number / 5)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "killed.mp4")
    writer.close()
    assert len(written(tmp_path / "a.mp4")) == 64
    frames = 0
    with av.open(str(tmp_path / "killed.mp4")) as container:
        for packet in container.demux(video=0):
            try:
                frames += len(packet.decode())
            except av.InvalidDataError:  # the last one is cut off
                break
    assert frames >= 50
