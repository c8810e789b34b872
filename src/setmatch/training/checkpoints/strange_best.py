"""Best weights that another run wrote, as after a copy of folders, are not weights of this run."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from setmatch.files.writing import set_aside
from setmatch.training.checkpoints.best import BEST, Run
from setmatch.training.logging.writers import LOG, Row, read_log


def set_aside_strange_best(run: Path, classes: Collection[str]) -> None:
    """Rename RUN/best, with a warning, where classes or log of the run contradict its metrics.

    Call it before the log is cut to the checkpoint. A run that was killed in an evaluation has best
    weights that are newer than its log, and one whose log was deleted has older ones.
    """
    metrics = Run(run).best
    if metrics is None:
        return
    rows, broken = read_log(run / LOG)
    reason = _contradiction(metrics, () if broken else rows, classes)
    if reason:
        renamed = set_aside(run / BEST)
        assert renamed is not None, "it has metrics"
        warnings.warn(
            f"{run / BEST}: not the weights of this run ({reason}); renamed to {renamed.name}, so "
            "that the next evaluation keeps its own",
            stacklevel=2,
        )


def _contradiction(
    metrics: Mapping[str, Any], rows: Sequence[Row], classes: Collection[str]
) -> str:
    """Return what shows that the metrics are another run's; "" for nothing."""
    step, of_classes = metrics.get("step"), metrics.get("per_class")
    if not isinstance(step, int) or not isinstance(of_classes, dict):
        return "metrics.json has no step or no classes"
    if not of_classes.keys() <= set(classes):
        return "they detect other classes"
    evaluations = {int(row["step"] or 0): row for row in rows if row["kind"] == "val"}
    row = evaluations.get(step)
    if row is None:
        is_covered = bool(evaluations) and min(evaluations) <= step < max(evaluations)
        return f"the log has no evaluation after step {step}" if is_covered else ""
    differing = [
        name
        for name, value in metrics.items()
        if isinstance(value, int | float) and name in row and row[name] != value
    ]
    return f"the log has another {differing[0]} after step {step}" if differing else ""
