"""Every verb is interrupted at several moments: no traceback, and nothing half-written."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from clips import frame_count, red_box_frames, write_clip
from setmatch.data.synthetic.scenes import write_scenes

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(3600)]
MOMENTS = 6  # of each command
TEMPORARY = (".writing-*", ".replaced-*", ".removed-*")
SMALL = "--set data.short_side_px=64 --set data.long_side_px=96 --set data.workers=0"
COMMANDS = {
    "demo": "demo --scenes 32 --minutes 0.1 --out out",
    "audit": "audit data --html out/audit.html",
    "audit and fix": "audit data --fix out/fixed",
    "convert-data": "convert-data data out --to yolo",
    "models": "models",
    "train": f"train data --minutes 0.1 --out out {SMALL}",
    "curves": "curves run --out out/curves.html",
    "evaluate": "evaluate scenes_n data --split val --report out/report.html",
    "compare": "compare scenes_n model.onnx --data data --html out/compare.html",
    "benchmark": "benchmark model.onnx scenes_n --rounds 50 --json out/speed.json",
    "predict images": "predict scenes_n data --out out",
    "predict images by a file": "predict model.onnx data --out out",
    "predict a video": "predict scenes_n clip.mp4 --out out --track",
    "predict a video by a file": "predict model.onnx clip.mp4 --out out --track",
    "predict into Parquet": "predict model.onnx data --out out/a.parquet --part-images 4",
    "serve": "serve model.onnx --port 0",
    "export to ONNX": "export scenes_n --out out/model.onnx --size 96x96",
    "export to OpenVINO": "export scenes_n --out out/model.xml --size 96x96",
    "export to a page": "export scenes_n --to web --out out/site --size 96x96",
    "an engine for the cache": "evaluate scenes_n data --split val --engine onnxruntime",
    "push": "push run anna/shapes --out out/shapes",
    "explain": "explain scenes_n image.jpg --out out/why.html",
    "queries": "queries scenes_n data --out out/queries",
    "convert-weights": "convert-weights run out/weights --to setmatch",
    "ablate": "ablate ffn --scenes 16 --epochs 1 --out out",
    "tune": f"tune data --trials 2 --epochs 1 --out out {SMALL}",
}
RESUMABLE = ("demo", "predict into Parquet", "an engine for the cache", "tune", "ablate")


def heed_ctrl_c() -> None:
    """In a process that these tests start: they may run in the background, without Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """A command line in a folder of its own, with a cache and a folder for temporary files."""

    def __init__(self, inputs: Path, folder: Path, words: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for each in inputs.iterdir():
            if not (folder / each.name).exists():
                (folder / each.name).symlink_to(each)
        for name in ("tmp", "cache"):
            (folder / name).mkdir(exist_ok=True)
        self._errors = (folder / "stderr").open("w+")
        self._output = (folder / "stdout").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "setmatch", *words.split()],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "TMPDIR": str(folder / "tmp"),
                "SETMATCH_CACHE": str(folder / "cache"),
                "OMP_NUM_THREADS": "1",
            },
            stdout=self._output,
            stderr=self._errors,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )

    def wait_until_it_may_be_interrupted(self) -> None:
        """Wait until Python has started and our handler is there: only we handle SIGTERM."""
        while self.process.poll() is None:
            status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
            caught = int(status.partition("SigCgt:")[2].split()[0], 16)
            if caught >> (signal.SIGTERM - 1) & 1:
                return
            time.sleep(0.002)

    def interrupt(self, number: int) -> None:
        """Send a signal: Ctrl-C to all its processes, as a terminal does."""
        if self.process.poll() is None:
            (os.killpg if number == signal.SIGINT else os.kill)(self.process.pid, number)

    def end(self) -> tuple[int, str]:
        """Return the exit code, and what was said."""
        code = self.process.wait(900)
        said = []
        for file in (self._output, self._errors):
            file.seek(0)
            said.append(file.read())
            file.close()
        return code, "".join(said)

    def serves(self) -> bool:
        """Return whether it says so."""
        return "serving" in (self.folder / "stdout").read_text("utf-8")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, an image, a clip, an exported file and a run."""
    work, folder = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("inputs")
    write_scenes(folder / "data", 24, 8, 96, 0, 0)
    (folder / "image.jpg").write_bytes(sorted(folder.rglob("*.jpg"))[0].read_bytes())
    write_clip(folder / "clip.mp4", red_box_frames(60, (128, 96)) * 2)
    for words in (COMMANDS["export to ONNX"], COMMANDS["train"]):
        code, said = Command(folder, work, words).end()
        assert code == 0, said
        (work / "out").rename(work / words.split()[0])
    (work / "export/model.onnx").rename(folder / "model.onnx")
    (work / "train").rename(folder / "run")
    return folder


def assert_whole(folder: Path) -> None:
    """Nothing is temporary, and every file can be read."""
    assert [*(folder / "tmp").iterdir()] == []
    assert [path for name in TEMPORARY for path in folder.rglob(name)] == []
    for path in (folder / "out").rglob("*"):
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        elif path.suffix == ".html":
            assert path.read_text("utf-8").rstrip().endswith("</html>"), path
        elif path.suffix == ".mp4":
            assert frame_count(path) > 0, path
        elif path.suffix == ".parquet" and path.is_file():
            parquet.read_table(path)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_leaves_nothing_half_written(
    name: str, inputs: Path, tmp_path: Path
):
    """By Ctrl-C and SIGTERM, once and twice, from its first moment to its last."""
    words, chance = COMMANDS[name], random.Random(name)
    whole, began = Command(inputs, tmp_path / "whole", words), time.monotonic()
    while name == "serve" and not whole.serves():
        time.sleep(0.05)
    took_s = time.monotonic() - began
    if name == "serve":
        whole.interrupt(signal.SIGTERM)
    code, said = whole.end()
    took_s = max(took_s, time.monotonic() - began)
    assert code == (143 if name == "serve" else 0), said
    assert_whole(tmp_path / "whole")
    for attempt in range(MOMENTS):
        number = (signal.SIGINT, signal.SIGTERM)[attempt % 2]
        folder = tmp_path / f"{attempt}"
        command, began = Command(inputs, folder, words), time.monotonic()
        command.wait_until_it_may_be_interrupted()
        at_s = took_s * (attempt + chance.random()) / MOMENTS
        while time.monotonic() < began + at_s and command.process.poll() is None:
            time.sleep(0.005)
        for _ in range(1 + attempt // 2 % 2):
            command.interrupt(number)
            time.sleep(0.02)
        code, said = command.end()
        moment = f"{signal.Signals(number).name} after {at_s:.2f} of {took_s:.2f} s: {said}"
        assert code in (0, 128 + number), moment
        assert "Traceback" not in said, moment
        assert code == 0 or said.splitlines()[-1].startswith("setmatch: "), moment
        assert_whole(folder)
        if name in RESUMABLE:
            code, said = Command(inputs, folder, words).end()
            assert code == 0, f"continued after {moment}: {said}"
            assert_whole(folder)
