"""What `setmatch predict` of one image costs in a fresh process: weights, and an exported file."""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from setmatch.data.synthetic.scenes import scene
from setmatch.deploy.formats.onnx import to_onnx
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from timing import publish

# VmHWM is the process' own, while getrusage counts the process that started it, too.
_MEASURED = """
import sys, time
from setmatch.cli import main
code = main(sys.argv[1:])
assert code == 0, code
lines = open("/proc/self/status").read().splitlines()
print(time.process_time(), next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", nargs="?", default="setmatch_n")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = Categories(tuple(range(80)), tuple(f"class {number}" for number in range(80)))
    preprocessing = Preprocessing(options.side, options.side)
    detector = build(ModelCard(options.preset, {}, names, preprocessing)).eval()
    seconds: dict[str, list[float]] = {}
    mebibytes: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        place = Path(folder)
        Image.fromarray(scene((0, 0), 640).pixels).save(place / "image.jpg")
        save(detector, place / "weights")
        to_onnx(detector).save(place / "model.onnx")
        for _ in range(options.rounds):
            for name in ("weights", "model.onnx"):
                taken, used = _predict(place / name, place / "image.jpg", place / "out")
                seconds.setdefault(name, []).append(taken)
                mebibytes.setdefault(name, []).append(used)
    publish(
        f"setmatch predict of one image by {options.preset} of random weights, short and long side "
        f"{options.side}, one thread: processor time, and largest resident memory",
        {
            "seconds": {name: round(statistics.median(each), 2) for name, each in seconds.items()},
            "MiB": {name: round(max(each)) for name, each in mebibytes.items()},
        },
        options.json,
    )


def _predict(model: Path, image: Path, out: Path) -> tuple[float, float]:
    """Run the command line in a process of its own; return its processor seconds and MiB."""
    arguments = ["predict", str(model), str(image), "--out", str(out), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, kibibytes = done.stdout.split()[-2:]
    return float(seconds), float(kibibytes) / 1024


if __name__ == "__main__":
    main()
