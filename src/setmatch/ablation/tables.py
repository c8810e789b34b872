"""Results of a study beside the paper's numbers, as a console table and as JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from setmatch.ablation.studies import Arm, Study

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Outcome:
    """The result of a finished run on the validation split, 0..1."""

    AP: float
    AP50: float
    seed: int


@dataclass(frozen=True)
class Table:
    """A study with the outcomes of each arm, one per finished seed."""

    study: Study
    outcomes: tuple[tuple[Outcome, ...], ...]

    @property
    def has_results(self) -> bool:
        """True if any run has finished."""
        return any(self.outcomes)

    def average(self, arm: Arm) -> float | None:
        """Return the mean AP of an arm in percent; None if no run has finished."""
        outcomes = self.outcomes[self.study.arms.index(arm)]
        return 100 * statistics.mean(each.AP for each in outcomes) if outcomes else None

    def gain(self, arm: Arm) -> float | None:
        """Return the difference of an arm's mean AP to that of the reference, in points."""
        own, reference = self.average(arm), self.average(self.reference)
        return None if own is None or reference is None else own - reference

    def published_gain(self, arm: Arm) -> float | None:
        """Return the difference of the published APs, in points."""
        own, reference = arm.published, self.reference.published
        return None if own is None or reference is None else own - reference

    @property
    def reference(self) -> Arm:
        """The arm that the others are compared with."""
        return next(arm for arm in self.study.arms if arm.name == self.study.reference)

    def to_rich(self) -> "RenderableType":
        """Return a table for a rich console."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(self.study.name, box=SIMPLE_HEAD)
        published = any(arm.published is not None for arm in self.study.arms)
        columns = ["AP", "±", "AP50", "Δ", *(["AP in the paper", "Δ"] if published else [])]
        for column in columns:
            grid.add_column(column, justify="right")
        for arm, outcomes in zip(self.study.arms, self.outcomes, strict=True):
            ours = (
                _number(self.average(arm)),
                _spread(outcomes),
                _number(
                    100 * statistics.mean(each.AP50 for each in outcomes) if outcomes else None
                ),
                _signed(self.gain(arm)),
            )
            paper = (_number(arm.published), _signed(self.published_gain(arm)))
            grid.add_row(Text(arm.name), *ours, *(paper if published else ()))
        runs = {len(outcomes) for outcomes in self.outcomes}
        count = f"{min(runs)} to {max(runs)}" if len(runs) > 1 else f"{max(runs)}"
        source = f"; the paper: {self.study.source}, COCO" if published else ""
        note = f"{self.study.about}; runs per arm: {count}; ± over seeds{source}"
        return Group(grid, Text(note, style="dim"))


def to_json(tables: Sequence[Table]) -> dict[str, Any]:
    """Return every outcome of every arm as plain values, by study and arm."""
    return {
        table.study.name: {
            arm.name: {
                "overrides": list(arm.overrides),
                "published": arm.published,
                "runs": [vars(outcome) for outcome in outcomes],
            }
            for arm, outcomes in zip(table.study.arms, table.outcomes, strict=True)
        }
        for table in tables
    }


def _spread(outcomes: Sequence[Outcome]) -> str:
    if len(outcomes) < 2:
        return "–"
    return f"{100 * statistics.stdev(each.AP for each in outcomes):.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}"
