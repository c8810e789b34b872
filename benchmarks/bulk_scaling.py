"""Bulk prediction by one and by two processes, and the memory of a process over its images.

    python benchmarks/bulk_scaling.py --images 2000
    python benchmarks/bulk_scaling.py --images 100000 --side-px 64 --processes 1

Each process is `setmatch predict ... --shard I/N` with one thread for the model, all started at the
same time. Two more threads read images, so that one process takes more than one core. With `--pin`,
each has one core and no more, as where there are as many processes as cores. Rows and bytes on the
disk are those of the last run.
"""

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from pyarrow import parquet

from setmatch.bulk.predict_parquet import PART_IMAGES
from setmatch.bulk.shard import Shard
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy.formats.onnx import to_onnx
from setmatch.models.load import load
from timing import publish

DIFFERENT = 200  # images are drawn once, and then linked
SAMPLED_EVERY_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="scenes_n")
    parser.add_argument("--engine", choices=["onnxruntime", "eager"], default="onnxruntime")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side-px", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="photographs; the default are generated")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="give each process a core of its own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        place, model = Path(folder), options.model
        if options.engine == "onnxruntime":
            model = str(place / "model.onnx")
            to_onnx(load(options.model)).save(Path(model))
        images = _images(place / "images", options.images, options.side_px, options.folder)
        start_s = _run(model, images[:1], 1, place / "start", options.pin).seconds
        runs: dict[int, list[Run]] = {count: [] for count in options.processes}
        for number in range(options.rounds):
            for count in options.processes:
                out = place / f"{number}-{count}"
                runs[count].append(_run(model, images, count, out, options.pin))
        out = place / f"{options.rounds - 1}-{options.processes[-1]}.parquet"
        files = list(out.glob("*.parquet"))
        rows = sum(parquet.read_metadata(path).num_rows for path in files)
        size = sum(path.stat().st_size for path in files)
    seconds = {
        count: statistics.median(each.seconds - start_s for each in several)
        for count, several in runs.items()
    }
    first = seconds[options.processes[0]]
    generated = f"generated images of {options.side_px} pixels"
    kind = generated if options.folder is None else "photographs"
    publish(
        f"{options.images} {kind} by {options.model} and {options.engine}, in processes of one "
        f"{'core' if options.pin else 'thread'} each: after the seconds of the start",
        {
            "start_s": round(start_s, 2),
            "images_per_s": {n: round(options.images / each, 1) for n, each in seconds.items()},
            "times_as_fast": {n: round(first / each, 2) for n, each in seconds.items()},
            "processor_ms_per_image": {
                n: round(1000 * statistics.median(r.processor_s for r in each) / options.images, 2)
                for n, each in runs.items()
            },
            "memory_mb_of_the_first_process_after_images": {
                n: _tenths(each[-1].memory_mb) for n, each in runs.items()
            },
            "rows_per_image": round(rows / options.images, 2),
            "bytes_per_row": round(size / rows, 1),
            "cores": len(os.sched_getaffinity(0)),
            "load": [round(each, 1) for each in os.getloadavg()],
        },
        options.json,
    )


class Run:
    """Processes that share images, from their start to the end of the last one."""

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        done: Callable[[], int],
        cores: Sequence[int] | None,
    ) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        before = os.times()
        started_s = time.perf_counter()
        running = [
            subprocess.Popen(each, env=environment, stdout=subprocess.DEVNULL) for each in commands
        ]
        if cores is not None:
            for number, each in enumerate(running):
                os.sched_setaffinity(each.pid, {cores[number % len(cores)]})
        # That of the first process when a part of it was seen first, by its images so far.
        self.memory_mb: dict[int, float] = {}
        while any(each.poll() is None for each in running):
            if memory_mb := _memory_mb(running[0].pid):
                self.memory_mb.setdefault(done(), memory_mb)
            time.sleep(SAMPLED_EVERY_S)
        self.seconds = time.perf_counter() - started_s
        after = os.times()
        self.processor_s = (
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
        assert all(each.returncode == 0 for each in running), "a process failed"


def _run(model: str, images: Sequence[Path], count: int, place: Path, pin: bool) -> Run:
    listed = place.with_suffix(".txt")
    listed.write_text("\n".join(map(str, images)))
    command = [sys.executable, "-m", "setmatch", "predict", model, str(listed)]
    out, first = place.with_suffix(".parquet"), Shard(1, count)
    most = len(first.of(listed.read_text().splitlines()))
    command += ["--out", str(out)]

    def done_by_first() -> int:
        parts = sum(1 for _ in out.glob(f"shard-{first.name}-part-*.parquet"))
        return min(PART_IMAGES * parts, most)

    shards = [[*command, "--shard", f"{number}/{count}"] for number in range(1, count + 1)]
    return Run(shards, done_by_first, sorted(os.sched_getaffinity(0)) if pin else None)


def _images(folder: Path, count: int, side_px: int, photos: Path | None) -> list[Path]:
    """Fill a folder with photographs, in turns, or with generated images."""
    folder.mkdir()
    paths = [folder / f"{number:06}.jpg" for number in range(count)]
    found = sorted(photos.rglob("*.jpg")) if photos is not None else []
    for number, path in enumerate(paths):
        if found:
            path.symlink_to(found[number % len(found)].absolute())
        elif number < DIFFERENT:
            pixels: np.ndarray = scene((0, number), side_px).pixels
            Image.fromarray(pixels).save(path, quality=92)
        else:
            path.symlink_to(paths[number % DIFFERENT])
    return paths


def _memory_mb(pid: int) -> float:
    """Return the memory that a process has in use; 0 if it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def _tenths(memory_mb: Mapping[int, float]) -> dict[int, int]:
    """Return the memory after each tenth of the images, of those after which it is known."""
    step = PART_IMAGES * math.ceil(max(memory_mb) / (10 * PART_IMAGES))
    return {count: round(each) for count, each in memory_mb.items() if count and count % step == 0}


if __name__ == "__main__":
    main()
