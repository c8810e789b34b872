"""`benchmark`: time models with each engine, in turns, each in a process of its own."""

import os
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.deploy.benchmark.process import Worker, workers
from setmatch.deploy.benchmark.results import Benchmark, Row, Speed
from setmatch.deploy.export import FORMATS
from setmatch.deploy.traced import single_on_cpu
from setmatch.errors import ConfigError, SetmatchError
from setmatch.evaluation.compare.compare import processor_name
from setmatch.evaluation.evaluate import evaluate
from setmatch.inference.engines.load import is_exported, load_on
from setmatch.models.load import load

OWN = "own"  # the engine of a file, and eager for weights
EAGER = "eager"
BATCHES = (1, 2, 4, 8)
_IMAGES = 5  # of each model in a round
_BATCH_ROUNDS = 3


@dataclass(frozen=True)
class _Case:
    """A model, an engine by name, and the file or weights that run."""

    model: str
    engine: str
    threads: int
    runs: str = ""
    problem: str = ""


def benchmark(
    models: Sequence[str | Path],
    *,
    engines: Sequence[str] = (OWN,),
    threads: Sequence[int] = (1,),
    size_px: tuple[int, int] | None = None,
    rounds: int = 20,
    data: str | Path | None = None,
    split: str = "val",
    progress: bool = False,
) -> Benchmark:
    """Time models with each engine and number of threads, and measure AP on a split of `data`.

    `models` are whatever `load` takes. `engines` are "eager", or the engine of an export format,
    such as "onnxruntime" and "openvino", for which weights are exported first; "own" is the engine
    of a file, and eager for weights. Pixels are random, of `size_px` (height, width) or the model's
    usual size. Each round times some images of each model, so that other load meets all alike.

    A model that cannot be loaded or does not run keeps its row, with a note. Raises ConfigError if
    none runs, for an engine that does not exist or numbers below 1, and what reading the data
    raises.
    """
    if not models:
        raise ConfigError("nothing to time: name at least one run, weights, name or exported file")
    if rounds < 1 or min(threads, default=0) < 1:
        raise ConfigError(f"rounds = {rounds}, threads = {list(threads)}: at least 1 of each")
    known = (OWN, EAGER, *_formats())
    for engine in engines:
        if engine not in known:
            raise ConfigError(f"engine {engine!r}: choose among {', '.join(known)}")
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    dataset = None if data is None else open_dataset(data, split)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        cases = [
            replace(case, threads=count)
            for case in _cases(models, engines, folder)
            for count in threads
        ]
        started = stack.enter_context(workers([each.threads for each in cases]))
        speeds = _measure(cases, started, size_px, rounds)
        if not any(speed for speed, _ in speeds):
            raise ConfigError(speeds[0][1])
        rows = [
            Row(case.model, case.engine, case.threads, speed, note=problem)
            for case, (speed, problem) in zip(cases, speeds, strict=True)
        ]
        if dataset is not None:
            rows = _with_precision(rows, cases, dataset, progress)
    measured_on = "" if dataset is None else f"{len(dataset)} images of {dataset.source.name}"
    return Benchmark(tuple(rows), processor_name(), load_before, rounds, measured_on)


def _formats() -> dict[str, Any]:
    """Return the export format of each engine."""
    engine_of = {"onnx": "onnxruntime"}
    return {engine_of.get(each.name, each.name): each for each in FORMATS}


def _cases(models: Sequence[str | Path], engines: Sequence[str], folder: Path) -> list[_Case]:
    """Return every model with every engine, exporting weights into `folder` where needed."""
    formats, cases = _formats(), []
    for number, model in enumerate(map(str, models)):
        own = EAGER
        if is_exported(model):
            suffix = Path(model).suffix.lower()
            own = next(name for name, kind in formats.items() if kind.suffix == suffix)
        for engine in dict.fromkeys(own if name == OWN else name for name in engines):
            case = _Case(model, engine, 1, model)
            if engine != own and own != EAGER:
                case = replace(case, problem=f"an exported file runs with {own} alone")
            elif engine != own:
                try:
                    path = folder / f"{number}{formats[engine].suffix}"
                    formats[engine].require_libraries()
                    formats[engine].build(single_on_cpu(load(model)), None, False).save(path)
                    case = replace(case, runs=str(path))
                except SetmatchError as error:
                    case = replace(case, problem=str(error))
            cases.append(case)
    return cases


def _measure(
    cases: Sequence[_Case],
    started: Sequence[Worker],
    size_px: tuple[int, int] | None,
    rounds: int,
) -> list[tuple[Speed | None, str]]:
    """Return the speed of each case, or None and why it does not run."""
    problems = [case.problem for case in cases]
    opened: list[dict[str, Any]] = [{} for _ in cases]
    memory = [0] * len(cases)
    rounds_s: list[list[tuple[float, ...]]] = [[] for _ in cases]
    batches_s: list[dict[int, float]] = [{} for _ in cases]

    def ask(number: int, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer, or {} from a case that has a problem."""
        if problems[number]:
            return {}
        try:
            return started[number].ask(request)
        except ConfigError as error:
            problems[number] = str(error)
            return {}

    for number, case in enumerate(cases):
        opened[number] = ask(number, {"source": case.runs, "size_px": size_px})
        memory[number] = ask(number, {"batch": 1, "count": 2}).get("peak_bytes", 0)  # warms up
    for _ in range(rounds):
        for number in range(len(cases)):
            answer = ask(number, {"batch": 1, "count": _IMAGES})
            rounds_s[number].append(tuple(answer.get("seconds", ())))
    for batch in BATCHES:
        times: list[list[float]] = [[] for _ in cases]
        for _ in range(min(_BATCH_ROUNDS, rounds)):
            for number, case_s in enumerate(times):
                case_s += ask(number, {"batch": batch, "count": 1}).get("seconds", [])
        for number, case_s in enumerate(times):
            if case_s:
                batches_s[number][batch] = statistics.median(case_s)
    speeds: list[tuple[Speed | None, str]] = []
    for number, problem in enumerate(problems):
        if not batches_s[number]:
            speeds.append((None, problem))
            continue
        answer = opened[number]
        speed = Speed(
            (answer["size_px"][0], answer["size_px"][1]),
            tuple(rounds_s[number]),
            batches_s[number],
            memory[number],
            answer["file_bytes"],
        )
        speeds.append((speed, problem))
    return speeds


def _with_precision(
    rows: Sequence[Row], cases: Sequence[_Case], dataset: DetectionDataset, progress: bool
) -> list[Row]:
    """Return the rows with AP, which does not depend on the number of threads."""
    found: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for case in cases:
        if case.problem or case.runs in found:
            continue
        try:
            engine = load_on(case.runs, torch.device("cpu"))
            found[case.runs] = evaluate(engine, dataset, progress=progress).AP
        except SetmatchError as error:
            found[case.runs], notes[case.runs] = None, str(error)
    scored = []
    for row, case in zip(rows, cases, strict=True):
        note = "; ".join(filter(None, (row.note, notes.get(case.runs))))
        scored.append(replace(row, AP=found.get(case.runs), note=note))
    return scored
