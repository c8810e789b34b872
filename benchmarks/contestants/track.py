"""What all contestants have in common: data, size of the pictures, budget, seed, evaluator."""

import json
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from setmatch.evaluation.evaluate import evaluate
from setmatch.files import atomic_file

CPU_CLOCK = Path(__file__).with_name("cpu_clock.py")


@dataclass(frozen=True)
class Track:
    """A data set and a budget.

    Contestants see pictures with a short side of about `side_px`; `exact` says that there are no
    more pixels, so that nobody's recipe is to enlarge them. `test` says that there is a split to
    report on beside the one that curves are drawn of. The budget is minutes by the clock, or with
    `by_cpu` of the contestant's own CPU time.
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
        """Return the command that runs a program (or -m, a module) by the clock of this track."""
        return [str(python), *([str(CPU_CLOCK)] if self.by_cpu else []), *program]


@dataclass(frozen=True)
class Mark:
    """What a contestant scored on the validation split at a time of its own training clock."""

    minutes: float
    AP: float
    AP50: float


@dataclass(frozen=True)
class Finish:
    """All that came out: `marks` in order of time, and what the best of them scored on test."""

    marks: tuple[Mark, ...]
    test: Mapping[str, float]
    steps: int
    about: Mapping[str, Any]  # learning rate, size of pictures and whatever else was chosen


class Contestant(Protocol):
    """A detector with its recipe."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def command(self, track: Track, folder: Path) -> list[str]:
        """Return what trains it for the budget into `folder`."""

    def finish(self, track: Track, folder: Path) -> Finish:
        """Measure what the training left, outside the budget."""


def spent(command: Sequence[str], log: Path) -> dict[str, float]:
    """Run a command to its end; return its seconds by the clock and of all its processes' CPU.

    Raises RuntimeError that names the log when it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    with log.open("w", encoding="utf-8") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise RuntimeError(f"exit code {code}; {log} says why")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(time.perf_counter() - began, 1), "cpu_s": round(cpu_s, 1)}


def scored(detections: Path, track: Track, split: str) -> dict[str, float]:
    """Return AP and AP50 of saved detections, and the AP of each class; all contestants alike."""
    report = evaluate(detections, track.data, split=split)
    classes = {name: each.AP for name, each in report.per_class.items()}
    return {"AP": report.AP, "AP50": report.AP50, **classes}


def marked(minutes: float, detections: Path, track: Track) -> Mark:
    """Return the mark that saved detections of the validation split are worth."""
    found = scored(detections, track, "val")
    return Mark(minutes, found["AP"], found["AP50"])


def best_of(marks: Sequence[Mark]) -> int:
    """Return which mark is the best, the latest of equals."""
    return max(range(len(marks)), key=lambda place: (marks[place].AP, place))


def write_json(path: Path, tree: object) -> None:
    """Write `tree` to `path`, whole or not at all."""
    with atomic_file(path) as aside:
        aside.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
