"""The history of a run, read from its log."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.errors import ConfigError, counted
from setmatch.html.tables import percent
from setmatch.training.logging.writers import LOG, Row, read_log

RECIPE = "recipe.yaml"
Points = list[tuple[float, float]]  # step or seconds, value


@dataclass(frozen=True)
class History:
    """The rows of a run in order; `broken` has the line numbers of unreadable lines."""

    name: str
    rows: tuple[Row, ...]
    broken: tuple[int, ...] = ()

    def points(self, kind: str, column: str, along: str = "step") -> Points:
        """Return (step, value) of a column, over rows of a kind ("train" or "val") that have it.

        With `along="seconds"` it is the training time instead of the step.
        """
        points: Points = []
        for row in self.rows:
            x, value = row.get(along), row.get(column)
            if (
                row["kind"] == kind
                and isinstance(value, int | float)
                and isinstance(x, int | float)
            ):
                points.append((float(x), float(value)))
        return points

    def measures(self) -> dict[str, Points]:
        """Return the validation metrics by name, the main one first; "AP" is box AP."""
        columns = {"PQ": "PQ", "mask AP": "mask_AP", "AP": "AP"}
        measured = {name: self.points("val", column) for name, column in columns.items()}
        return {name: points for name, points in measured.items() if points}

    @property
    def remarks(self) -> list[tuple[int, str]]:
        """The warnings of the training monitor, with the step after which they came."""
        return [
            (int(row["step"] or 0), str(row["says"]))
            for row in self.rows
            if row["kind"] == "watch" and "says" in row
        ]

    @property
    def steps(self) -> int:
        """The number of steps in the log."""
        return max(int(row["step"] or 0) for row in self.rows)

    def summary(self) -> str:
        """Return a sentence on steps, loss and metrics of the run."""
        losses = self.points("train", "loss")
        parts = [f"{self.name}: {counted(self.steps, 'step')}"]
        if losses:
            parts.append(f"loss {losses[0][1]:.3g} to {losses[-1][1]:.3g}")
        measures = self.measures()
        for name, points in measures.items():
            step, best = max(points, key=lambda point: point[1])
            parts.append(
                f"{name} {percent(points[-1][1])}, best {percent(best)} after step {step:,.0f}"
            )
        if not measures:
            parts.append("not evaluated yet")
        if self.broken:
            lines = ", ".join(map(str, self.broken[:5])) + ", …" * (len(self.broken) > 5)
            parts.append(
                f"{counted(len(self.broken), 'unreadable line')} of {LOG} ignored: {lines}"
            )
        return "; ".join(parts)


def read_history(run: Path, name: str = "") -> History:
    """Read the log of the run in folder `run`, ignoring unreadable lines.

    Raises ConfigError for a folder that is not a run, and for a run without a log line.
    """
    path = run / LOG
    if not run.is_dir():
        raise ConfigError(
            f"{run}: no such folder; name the folder of a run (the --out of its training)"
        )
    if not path.exists() and not (run / RECIPE).exists():
        raise ConfigError(
            f"{run}: not a run; training writes {RECIPE} and {LOG} into the folder of a run"
        )
    rows, broken = read_log(path)
    if not rows:
        reason = f"none of its {len(broken)} log lines can be read" if broken else "no log line yet"
        raise ConfigError(f"{run}: {reason}; training writes the first after its first step")
    return History(name or run.resolve().name, tuple(rows), tuple(broken))


def read_histories(runs: Sequence[Path]) -> list[History]:
    """Read several runs; each is named by as much of its path as tells the runs apart.

    Raises ConfigError as `read_history` does, for no run, and for the same run twice.
    """
    folders = [run.resolve() for run in runs]
    if not folders or len(set(folders)) < len(folders):
        raise ConfigError("curves: name at least one run, and each run once")
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return [
        read_history(run, "/".join(folder.parts[-depth:]))
        for run, folder in zip(runs, folders, strict=True)
    ]
