"""What came out of a study: a table beside the paper's numbers, as text and as JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from setmatch.ablation.studies import Arm, Study

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Outcome:
    """What a finished run scored on the validation split after its last step, 0..1."""

    AP: float
    AP50: float
    seed: int


@dataclass(frozen=True)
class Table:
    """A study with the outcomes of each arm, one for each seed that has ended."""

    study: Study
    outcomes: tuple[tuple[Outcome, ...], ...]

    @property
    def begun(self) -> bool:
        """True when any run has ended."""
        return any(self.outcomes)

    def average(self, arm: Arm) -> float | None:
        """Return the mean AP of an arm in per cent; None where no run has ended."""
        found = self.outcomes[self.study.arms.index(arm)]
        return 100 * statistics.mean(each.AP for each in found) if found else None

    def gain(self, arm: Arm) -> float | None:
        """Return by how much an arm's AP differs from the reference arm's."""
        mine, reference = self.average(arm), self.average(self.reference)
        return None if mine is None or reference is None else mine - reference

    def published_gain(self, arm: Arm) -> float | None:
        """Return the same difference in the paper."""
        mine, reference = arm.published, self.reference.published
        return None if mine is None or reference is None else mine - reference

    @property
    def reference(self) -> Arm:
        """The arm that the others are held against."""
        return next(arm for arm in self.study.arms if arm.name == self.study.reference)

    def shown(self) -> "RenderableType":
        """Return a table for a rich console."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(self.study.name, box=SIMPLE_HEAD)
        published = any(arm.published is not None for arm in self.study.arms)
        heads = ["AP", "±", "AP50", "Δ", *(["AP in the paper", "Δ"] if published else [])]
        for head in heads:
            grid.add_column(head, justify="right")
        for arm, found in zip(self.study.arms, self.outcomes, strict=True):
            here = (
                _number(self.average(arm)),
                _spread(found),
                _number(100 * statistics.mean(each.AP50 for each in found) if found else None),
                _signed(self.gain(arm)),
            )
            there = (_number(arm.published), _signed(self.published_gain(arm)))
            grid.add_row(Text(arm.name), *here, *(there if published else ()))
        runs = {len(found) for found in self.outcomes}
        count = f"{min(runs)} to {max(runs)}" if len(runs) > 1 else f"{max(runs)}"
        source = f"; the paper: {self.study.source}, COCO" if published else ""
        note = f"{self.study.about}; runs of each arm: {count}; ± over seeds{source}"
        return Group(grid, Text(note, style="dim"))


def to_json(tables: Sequence[Table]) -> dict[str, Any]:
    """Return every outcome of every arm as plain values, by study and arm."""
    return {
        table.study.name: {
            arm.name: {
                "overrides": list(arm.overrides),
                "published": arm.published,
                "runs": [vars(outcome) for outcome in found],
            }
            for arm, found in zip(table.study.arms, table.outcomes, strict=True)
        }
        for table in tables
    }


def _spread(found: Sequence[Outcome]) -> str:
    if len(found) < 2:
        return "–"
    return f"{100 * statistics.stdev(each.AP for each in found):.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}"
