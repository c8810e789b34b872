"""Interleaved timing, and the conditions that are stored with every result."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from setmatch.distributed import choose_precision


def time_interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median seconds of each candidate; they take turns, so noise affects all.

    With one thread, `clock` may be time.process_time, which other programs do not slow down.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(warmup + rounds):
        for name, run in candidates.items():
            start = clock()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= warmup:
                times[name].append(clock() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def conditions() -> dict[str, str]:
    """Return the conditions of a result: commit, machine, versions and command."""
    here = str(Path(__file__).parent)  # independent of the working directory
    git = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=10"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    command = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "commit": commit,
        "machine": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "auto_precision": str(choose_precision("auto", device)).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": " ".join(command),
    }


def publish(title: str, results: dict[str, object], out: Path | None) -> None:
    """Print the results as JSON, and write them to `out` if it is given."""
    text = json.dumps({"title": title, **results, **conditions()}, indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            flags = "AMX" if torch.cpu._is_amx_tile_supported() else "no AMX"
            return f"{line.partition(':')[2].strip()} ({flags})"
    return platform.processor()
