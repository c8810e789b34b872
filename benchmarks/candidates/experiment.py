"""Common to all candidates: data, image size, budget, seed and evaluator."""

import json
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from setmatch.evaluation.evaluate import evaluate
from setmatch.files.writing import atomic_file

CPU_CLOCK = Path(__file__).with_name("cpu_clock.py")


@dataclass(frozen=True)
class Experiment:
    """A data set and a budget.

    Inputs have a short side of about `side_px`. `exact`: the images have no more pixels, so no
    recipe may enlarge them. `test`: there is a test split. The budget is minutes of wall-clock
    time, or with `by_cpu` of the candidate's CPU time.
    """

    name: str
    data: Path
    side_px: int
    minutes: float
    seed: int
    by_cpu: bool = False
    exact: bool = False
    test: bool = False

    def clocked(self, python: Path, program: Sequence[str]) -> list[str]:
        """Return the command that runs a program (or -m, a module) with the experiment's clock."""
        return [str(python), *([str(CPU_CLOCK)] if self.by_cpu else []), *program]


@dataclass(frozen=True)
class ValPoint:
    """AP on the validation split after some minutes of training."""

    minutes: float
    AP: float
    AP50: float


@dataclass(frozen=True)
class Result:
    """Evaluations on the validation split by time, and on the test split at the best of them."""

    val: tuple[ValPoint, ...]
    test: Mapping[str, float]
    steps: int
    about: Mapping[str, Any]  # learning rate, image size and other choices


class Candidate(Protocol):
    """A detector with its recipe."""

    @property
    def name(self) -> str:
        """Name in tables."""

    def command(self, experiment: Experiment, folder: Path) -> list[str]:
        """Return the command that trains for the budget and writes to `folder`."""

    def evaluate(self, experiment: Experiment, folder: Path) -> Result:
        """Evaluate the trained weights, outside the budget."""


def run_timed(command: Sequence[str], log: Path) -> dict[str, float]:
    """Run a command; return its wall-clock and CPU seconds.

    Raises RuntimeError that names the log if it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise RuntimeError(f"exit code {code}; see {log}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(time.perf_counter() - started, 1), "cpu_s": round(cpu_s, 1)}


def evaluate_detections(detections: Path, experiment: Experiment, split: str) -> dict[str, float]:
    """Return AP, AP50 and the AP of each class of saved detections."""
    report = evaluate(detections, experiment.data, split=split)
    classes = {name: each.AP for name, each in report.per_class.items()}
    return {"AP": report.AP, "AP50": report.AP50, **classes}


def val_point(minutes: float, detections: Path, experiment: Experiment) -> ValPoint:
    """Evaluate saved detections of the validation split."""
    metrics = evaluate_detections(detections, experiment, "val")
    return ValPoint(minutes, metrics["AP"], metrics["AP50"])


def best_index(val: Sequence[ValPoint]) -> int:
    """Return the index of the best point, the latest if several are equal."""
    return max(range(len(val)), key=lambda index: (val[index].AP, index))


def write_json(path: Path, tree: object) -> None:
    """Write `tree` to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
