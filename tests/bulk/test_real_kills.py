"""SIGKILL at random moments of the command line, with one process and with two that share."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checked_types import unchecked
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.deploy.formats.onnx import to_onnx
from setmatch.models.load import load

pytestmark = [pytest.mark.campaign, pytest.mark.promise(21), pytest.mark.timeout(600)]
IMAGES = 240


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, one of which is damaged, and a model that starts without torch."""
    folder = tmp_path_factory.mktemp("bulk")
    write_scenes(folder / "data", IMAGES, 1, 96, 0, 0)
    images = sorted((folder / "data").rglob("*.jpg"))
    images[7].write_bytes(images[7].read_bytes()[:500])
    with unchecked():
        to_onnx(load("scenes_n")).save(folder / "model.onnx")
    return folder


def start(place: Path, out: Path, shard: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "setmatch", "predict", str(place / "model.onnx")]
    command += [str(place / "data"), "--out", str(out), "--part-images", "8", "--shard", shard]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    said, problems = process.communicate(timeout=300)
    assert process.returncode == 0, problems
    assert "damaged" not in problems
    return said


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))}


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[int, tuple[dict[str, bytes], float]]:
    """The files of a result that nobody killed, by the number of shards, and its seconds."""
    results = {}
    for count in (1, 2):
        out = place / f"{count}.parquet"
        started = time.monotonic()
        for number in range(1, count + 1):
            finish(start(place, out, f"{number}/{count}"))
        results[count] = files(out), (time.monotonic() - started) / count
    return results


@pytest.mark.parametrize("seed", range(25))
def test_a_killed_command_is_continued_to_the_same_files(
    seed: int, place: Path, undisturbed: dict[int, tuple[dict[str, bytes], float]], tmp_path: Path
):
    """Killed once to three times; every second time, another process has the other shard."""
    chance, count = random.Random(seed), 1 + seed % 2
    whole, took_s = undisturbed[count]
    out = tmp_path / "a.parquet"
    other = start(place, out, "2/2") if count == 2 else None
    left, wait_s = chance.randrange(1, 4), took_s
    while left:
        process = start(place, out, f"1/{count}")
        time.sleep(chance.uniform(0.1, 1.1) * wait_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert files(out).items() <= whole.items()
        if process.returncode == -signal.SIGKILL:
            left -= 1
        else:  # it had ended, and was not killed
            wait_s /= 2
    if other is not None:
        finish(other)
    finish(start(place, out, f"1/{count}"))
    assert files(out) == whole
    assert not list(out.rglob(".writing-*"))
