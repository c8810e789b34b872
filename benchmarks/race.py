"""Time to AP: all candidates have the same data, machine, time budget, seed and evaluator.

All start from random weights and train in one process. Only training time counts; for setmatch it
includes the evaluations during training. Curves are AP on the validation split. If there is a
test split, the weights of the best point are evaluated on it once. Finished runs are reused, so the
same command resumes an interrupted race. On a shared machine, --by-cpu counts each candidate's CPU
time.

    python benchmarks/race.py OUT --scenes --data bccd=FOLDER --only setmatch_n yolo11n --yolo EXE
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from candidates.experiment import Candidate, Experiment, run_timed, write_json
from candidates.report import draw, table
from candidates.setmatch_presets import SETMATCH_PRESETS
from candidates.transformers_models import TRANSFORMERS_MODELS
from candidates.ultralytics import Ultralytics
from setmatch.data.open import require_split
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError
from timing import conditions

FOLDERS = re.compile(r"(?<![^\s=])/\S*/")  # of a path, without its last part
RUN = ("machine", "data", "minutes", "clock", "name", "seed")  # identify a run
SCENES, VALIDATION_SCENES, SCENES_PX, SIDE_PX = 2000, 200, 160, 320


def scenes(out: Path) -> Path:
    """Return the scenes of `setmatch demo`; generate them if they do not exist."""
    if not (out / "annotations" / "val.json").exists():
        write_scenes(out, SCENES, VALIDATION_SCENES, SCENES_PX, 0, workers=1)
    return out


def experiments(options: argparse.Namespace) -> list[Experiment]:
    """Return the chosen experiments."""
    common = (options.minutes, options.seed, options.by_cpu)
    runs = []
    for given in options.data:
        name, _, folder = given.partition("=")
        data = Path(folder).resolve()
        runs.append(Experiment(name, data, SIDE_PX, *common, test=_has_test(data)))
    if options.scenes:
        data = scenes(options.out / "scenes").resolve()
        runs.append(Experiment("scenes", data, SCENES_PX, *common, exact=True))
    return runs


def _has_test(data: Path) -> bool:
    try:
        require_split(data, "test")
    except DataError:
        return False
    return True


def train_and_evaluate(candidate: Candidate, experiment: Experiment, out: Path) -> None:
    """Train and evaluate, unless there is a result. Failures are printed and do not stop others."""
    folder = (
        out / f"{experiment.name}_{experiment.minutes:g}min_seed{experiment.seed}" / candidate.name
    )
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "result.json").exists():
        return
    print(f"{experiment.name}, {experiment.minutes:g} minutes: {candidate.name}", flush=True)
    try:
        if not (folder / "train.json").exists():
            where = conditions()  # fails before the training, if at all
            seconds = run_timed(candidate.command(experiment, folder), folder / "train.log")
            write_json(folder / "train.json", {**seconds, **where})
        result = candidate.evaluate(experiment, folder)
    except RuntimeError as error:
        print(f"  {error}")
        return
    trained = json.loads((folder / "train.json").read_text())
    about = {"data": experiment.name, "minutes": experiment.minutes, "seed": experiment.seed}
    about["clock"] = "own CPU time" if experiment.by_cpu else "by the clock"
    write_json(
        folder / "result.json", {"name": candidate.name, **about, **asdict(result), **trained}
    )
    best = max(point.AP for point in result.val)
    print(f"  AP {100 * best:.1f} {dict(result.test)}", flush=True)


def results(out: Path) -> list[dict[str, Any]]:
    """Return the results of all finished runs, without paths of folders."""
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("*/*/result.json"))]
    return [each | {"command": FOLDERS.sub("", each["command"])} for each in runs]


def merged(runs: Sequence[dict[str, Any]], earlier: Path) -> list[dict[str, Any]]:
    """Return the new results, and the `earlier` ones of runs that were not repeated."""
    old = json.loads(earlier.read_text()) if earlier.exists() else []
    return list({tuple(each[key] for key in RUN): each for each in (*old, *runs)}.values())


def report(runs: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write race.json, race.md, and a plot of each data set and machine with several candidates."""
    runs = merged(runs, folder / "race.json")
    write_json(folder / "race.json", list(runs))
    (folder / "race.md").write_text(table(runs), encoding="utf-8")
    for name, machine in sorted({(each["data"], each["machine"]) for each in runs}):
        shown = [each for each in runs if (each["data"], each["machine"]) == (name, machine)]
        if len({each["name"] for each in shown}) > 1:
            draw(shown, folder / f"race_{name}_{_slug(machine)}.png")


def _slug(machine: str) -> str:
    """Return a machine's name for a file name: "Intel(R) Xeon(R) (AMX)" is intel_xeon_amx."""
    plain = re.sub(r"\(R\)|Processor|\(no AMX\)", "", machine)
    return "_".join(re.findall(r"[a-z0-9]+", plain.lower()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", nargs="*", default=[], help="NAME=FOLDER")
    parser.add_argument("--scenes", action="store_true", help="generated scenes, as in the demo")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--by-cpu", action="store_true", help="count minutes of CPU time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="candidates by name")
    parser.add_argument("--yolo", type=Path, help="an executable in an environment of its own")
    parser.add_argument("--report", type=Path, help="folder for table, plots and JSON")
    options = parser.parse_args()
    known: list[Candidate] = [*SETMATCH_PRESETS, *TRANSFORMERS_MODELS]
    if options.yolo:
        executable = options.yolo.absolute()
        known += [Ultralytics("yolo11n", executable), Ultralytics("yolo11n", executable, 1.3)]
    names = [each.name for each in known] if options.only is None else options.only
    if unknown := set(names) - {each.name for each in known}:
        parser.error(f"{', '.join(unknown)}: known are {', '.join(each.name for each in known)}")
    for experiment in experiments(options):
        for candidate in known:
            if candidate.name in names:
                train_and_evaluate(candidate, experiment, options.out)
    if options.report:
        report(results(options.out), options.report)


if __name__ == "__main__":
    main()
