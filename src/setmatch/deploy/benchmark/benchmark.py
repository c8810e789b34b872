"""`benchmark`: time models with each engine, in turns, each in a process of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.deploy.benchmark.process import Worker, workers
from setmatch.deploy.benchmark.results import Benchmark, Row, Speed
from setmatch.deploy.engine_cache import cached_file
from setmatch.deploy.formats.base import require_size
from setmatch.deploy.load import KINDS
from setmatch.errors import ConfigError, SetmatchError
from setmatch.evaluation.compare.compare import processor_name
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.timing import Run, Times, load_average, take_turns
from setmatch.inference.engines.load import is_exported, load
from setmatch.inference.engines.torch_session import is_trusted
from setmatch.models.load import load as load_weights

OWN = "own"  # the engine of a file, and eager for weights
EAGER = "eager"
BATCHES = (1, 2, 4, 8)
_IMAGES = 5  # of each model in a round
_BATCH_ROUNDS = 3


@dataclass(frozen=True)
class _Case:
    """A model, an engine by name, and the file or weights that run.

    Compiled code in the file runs if it `is_trusted`.
    """

    model: str
    engine: str
    threads: int
    runs: str = ""
    is_trusted: bool = False
    problem: str = ""


def benchmark(
    models: Sequence[str | Path],
    *,
    engines: Sequence[str] = (OWN,),
    threads: Sequence[int] = (1,),
    size_px: tuple[int, int] | None = None,
    rounds: int = 10,
    data: str | Path | None = None,
    split: str = "val",
    progress: bool = False,
) -> Benchmark:
    """Time models with each engine and number of threads, and measure AP on a split of `data`.

    `models` are whatever `load` takes. `engines` are those of `load`, whose files are written and
    verified once; "own" is the engine of a file, and eager for weights. Pixels are random, of
    `size_px` (height, width) or the model's usual size. Each round times some images of each model,
    so that other load meets all alike.

    A model that cannot be loaded or does not run keeps its row, with a note. Raises ConfigError if
    none runs, for an engine that does not exist, numbers below 1 or a size out of range, and what
    reading the data raises.
    """
    if not models:
        raise ConfigError("nothing to time: name at least one run, weights, name or exported file")
    if rounds < 1 or min(threads, default=0) < 1:
        raise ConfigError(f"rounds = {rounds}, threads = {list(threads)}: at least 1 of each")
    require_size(size_px)
    known = (OWN, EAGER, *KINDS)
    for engine in engines:
        if engine not in known:
            raise ConfigError(f"engine {engine!r}: choose among {', '.join(known)}")
    load_before = load_average()
    dataset = None if data is None else open_dataset(data, split)
    cases = [replace(case, threads=count) for case in _cases(models, engines) for count in threads]
    with workers([each.threads for each in cases]) as started:
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


def _cases(models: Sequence[str | Path], engines: Sequence[str]) -> list[_Case]:
    """Return every model with every engine, whose files are written where the cache has none."""
    cases = []
    for model in map(str, models):
        own = EAGER
        if is_exported(model):
            suffix = Path(model).suffix.lower()
            own = next(name for name, kind in KINDS.items() if kind.suffix == suffix)
        for engine in dict.fromkeys(own if name == OWN else name for name in engines):
            case = _Case(model, engine, 1, model, is_trusted(model))
            if engine != own and own != EAGER:
                case = replace(case, problem=f"an exported file runs with {own} alone")
            elif engine != own:
                try:
                    file = cached_file(load_weights(model), KINDS[engine])
                    case = replace(case, runs=str(file), is_trusted=True)
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
    batches_s: list[dict[int, float]] = [{} for _ in cases]

    def ask(number: int, request: dict[str, Any]) -> dict[str, Any]:
        """Return the response, or {} from a case that has a problem."""
        if problems[number]:
            return {}
        try:
            return started[number].ask(request)
        except ConfigError as error:
            problems[number] = str(error)
            return {}

    for number, case in enumerate(cases):
        source = {"source": case.runs, "trust": case.is_trusted}
        opened[number] = ask(number, {**source, "size_px": size_px})
        memory[number] = ask(number, {"batch": 1, "count": 2}).get("peak_bytes", 0)  # warms up

    def runs(batch: int, count: int) -> list[Run]:
        request = {"batch": batch, "count": count}

        def run(number: int) -> Run:
            return lambda _: ask(number, request).get("seconds", ())

        return [run(number) for number in range(len(cases))]

    rounds_s = take_turns(runs(1, _IMAGES), rounds)
    for batch in BATCHES:
        times = take_turns(runs(batch, 1), min(_BATCH_ROUNDS, rounds))
        for number, case_s in enumerate(times):
            if any(case_s):
                batches_s[number][batch] = Times(tuple(case_s)).median_s
    speeds: list[tuple[Speed | None, str]] = []
    for number, problem in enumerate(problems):
        if not batches_s[number]:
            speeds.append((None, problem))
            continue
        response = opened[number]
        speed = Speed(
            (response["size_px"][0], response["size_px"][1]),
            tuple(rounds_s[number]),
            batches_s[number],
            memory[number],
            response["file_bytes"],
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
            model = load(case.runs, trust=case.is_trusted)
            found[case.runs] = evaluate(model, dataset, progress=progress).AP
        except SetmatchError as error:
            found[case.runs], notes[case.runs] = None, str(error)
    scored = []
    for row, case in zip(rows, cases, strict=True):
        note = "; ".join(filter(None, (row.note, notes.get(case.runs))))
        scored.append(replace(row, AP=found.get(case.runs), note=note))
    return scored
