"""Time to AP: all contestants have the same data, machine, time budget, seed and evaluator.

Everyone starts from random weights and trains in one process. Only training time counts; for ours
it includes the evaluations during training. Curves are AP on the validation split. If there is a
test split, the weights of the best point are evaluated on it once. Finished runs are reused, so the
same command resumes an interrupted race. On a shared machine, --by-cpu counts each contestant's CPU
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

from contestants.ours import OURS
from contestants.outside import Outside
from contestants.peers import PEERS
from contestants.telling import draw, table
from contestants.track import Contestant, Track, spent, write_json
from setmatch.data.open import require_split
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError
from timing import conditions

FOLDERS = re.compile(r"(?<![^\s=])/\S*/")  # of a path, without its last part
RUN = ("machine", "track", "minutes", "clock", "name", "seed")  # identify a run
SCENES, VALIDATION_SCENES, SCENES_PX, SIDE_PX = 2000, 200, 160, 320


def scenes(out: Path) -> Path:
    """Return the scenes of `setmatch demo`; generate them if they do not exist."""
    if not (out / "annotations" / "val.json").exists():
        write_scenes(out, SCENES, VALIDATION_SCENES, SCENES_PX, 0, workers=1)
    return out


def tracks(options: argparse.Namespace) -> list[Track]:
    """Return the chosen tracks."""
    common = (options.minutes, options.seed, options.by_cpu)
    found = []
    for given in options.data:
        name, _, folder = given.partition("=")
        data = Path(folder).resolve()
        found.append(Track(name, data, SIDE_PX, *common, test=_has_test(data)))
    if options.scenes:
        data = scenes(options.out / "scenes").resolve()
        found.append(Track("scenes", data, SCENES_PX, *common, exact=True))
    return found


def _has_test(data: Path) -> bool:
    try:
        require_split(data, "test")
    except DataError:
        return False
    return True


def compete(contestant: Contestant, track: Track, out: Path) -> None:
    """Train and evaluate, unless there is a result. Failures are printed and do not stop others."""
    place = out / f"{track.name}_{track.minutes:g}min_seed{track.seed}" / contestant.name
    place.mkdir(parents=True, exist_ok=True)
    if (place / "result.json").exists():
        return
    print(f"{track.name}, {track.minutes:g} minutes: {contestant.name}", flush=True)
    try:
        if not (place / "train.json").exists():
            where = conditions()  # fails before the training, if at all
            seconds = spent(contestant.command(track, place), place / "train.log")
            write_json(place / "train.json", {**seconds, **where})
        finish = contestant.finish(track, place)
    except RuntimeError as error:
        print(f"  {error}")
        return
    trained = json.loads((place / "train.json").read_text())
    about = {"track": track.name, "minutes": track.minutes, "seed": track.seed}
    about["clock"] = "own CPU time" if track.by_cpu else "by the clock"
    write_json(
        place / "result.json", {"name": contestant.name, **about, **asdict(finish), **trained}
    )
    best = max(mark.AP for mark in finish.marks)
    print(f"  AP {100 * best:.1f} {dict(finish.test)}", flush=True)


def results(out: Path) -> list[dict[str, Any]]:
    """Return the results of all finished runs, without paths of folders."""
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*/*/result.json"))]
    return [each | {"command": FOLDERS.sub("", each["command"])} for each in found]


def merged(found: Sequence[dict[str, Any]], earlier: Path) -> list[dict[str, Any]]:
    """Return the new results, and the `earlier` ones of runs that were not repeated."""
    old = json.loads(earlier.read_text()) if earlier.exists() else []
    return list({tuple(each[key] for key in RUN): each for each in (*old, *found)}.values())


def report(found: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write race.json, race.md and a plot for each track and machine with several contestants."""
    found = merged(found, folder / "race.json")
    write_json(folder / "race.json", list(found))
    (folder / "race.md").write_text(table(found), encoding="utf-8")
    for name, machine in sorted({(each["track"], each["machine"]) for each in found}):
        shown = [each for each in found if (each["track"], each["machine"]) == (name, machine)]
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
    parser.add_argument("--only", nargs="*", help="contestants by name")
    parser.add_argument("--yolo", type=Path, help="an executable in an environment of its own")
    parser.add_argument("--tell", type=Path, help="folder for table, plots and JSON")
    options = parser.parse_args()
    known: list[Contestant] = [*OURS, *PEERS]
    if options.yolo:
        executable = options.yolo.absolute()
        known += [Outside("yolo11n", executable), Outside("yolo11n", executable, 1.3)]
    names = [each.name for each in known] if options.only is None else options.only
    if unknown := set(names) - {each.name for each in known}:
        parser.error(f"{', '.join(unknown)}: known are {', '.join(each.name for each in known)}")
    for track in tracks(options):
        for contestant in known:
            if contestant.name in names:
                compete(contestant, track, options.out)
    if options.tell:
        report(results(options.out), options.tell)


if __name__ == "__main__":
    main()
