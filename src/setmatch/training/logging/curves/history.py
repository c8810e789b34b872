"""What the log of a run tells about its course."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.errors import ConfigError
from setmatch.training.logging.writers import LOG, Row, read_log

RECIPE = "recipe.yaml"
Points = list[tuple[float, float]]  # step, value


@dataclass(frozen=True)
class History:
    """The rows of a run in order; `broken` numbers the lines of its log that cannot be read."""

    name: str
    rows: tuple[Row, ...]
    broken: tuple[int, ...] = ()

    def points(self, kind: str, column: str) -> Points:
        """Return a column of the rows of a kind ("train" or "val"), without rows that lack it."""
        found: Points = []
        for row in self.rows:
            step, value = row["step"], row.get(column)
            if row["kind"] == kind and isinstance(value, int | float) and isinstance(step, int):
                found.append((float(step), float(value)))
        return found

    def measures(self) -> dict[str, Points]:
        """Return what evaluations found, by name, the most telling first; AP is always of boxes."""
        columns = {"PQ": "PQ", "mask AP": "mask_AP", "AP": "AP"}
        measured = {name: self.points("val", column) for name, column in columns.items()}
        return {name: points for name, points in measured.items() if points}

    @property
    def remarks(self) -> list[tuple[int, str]]:
        """What the watch said, and after which step."""
        return [
            (int(row["step"] or 0), str(row["says"]))
            for row in self.rows
            if row["kind"] == "watch" and "says" in row
        ]

    @property
    def steps(self) -> int:
        """Return how many steps the log tells of."""
        return max(int(row["step"] or 0) for row in self.rows)

    def summary(self) -> str:
        """Say in a sentence how the run went."""
        losses = self.points("train", "loss")
        told = [f"{self.name}: {self.steps:,} steps"]
        if losses:
            told.append(f"loss {losses[0][1]:.3g} to {losses[-1][1]:.3g}")
        measures = self.measures()
        for name, points in measures.items():
            step, best = max(points, key=lambda point: point[1])
            told.append(f"{name} {points[-1][1]:.3f}, the best {best:.3f} after step {step:,.0f}")
        if not measures:
            told.append("not evaluated yet")
        if self.broken:
            lines = ", ".join(map(str, self.broken[:5])) + ", …" * (len(self.broken) > 5)
            told.append(f"{len(self.broken)} broken line(s) of its {LOG} left out: {lines}")
        return "; ".join(told)


def read_history(run: Path, name: str = "") -> History:
    """Read the log of the run in folder `run`; a line that is broken is left out and numbered.

    Raises ConfigError for a folder that is no run, and for a run that has no log line yet.
    """
    path = run / LOG
    if not run.is_dir():
        raise ConfigError(
            f"{run}: no such folder; give the folder of a run (--out of its training)"
        )
    if not path.exists() and not (run / RECIPE).exists():
        raise ConfigError(f"{run}: no run; a run has a {RECIPE} and a {LOG}, which training writes")
    rows, broken = read_log(path)
    if not rows:
        what = f"none of its {len(broken)} log lines can be read" if broken else "no log line yet"
        raise ConfigError(f"{run}: {what}; the first is written after the first step of training")
    return History(name or run.resolve().name, tuple(rows), tuple(broken))


def read_histories(runs: Sequence[Path]) -> list[History]:
    """Read several runs, which are called by as much of their paths as tells them apart.

    Raises ConfigError as `read_history` does, and for no run or the same one twice.
    """
    folders = [run.resolve() for run in runs]
    if not folders or len(set(folders)) < len(folders):
        raise ConfigError("curves: name at least one run, and each once")
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return [
        read_history(run, "/".join(folder.parts[-depth:]))
        for run, folder in zip(runs, folders, strict=True)
    ]
