"""What more time would give, for a demo that stays below its goal on a slow or busy machine."""

import math
from dataclasses import dataclass

from setmatch.html.tables import percent


@dataclass(frozen=True)
class Measured:
    """What a demo of boxes with the default model and images reached after `steps` steps."""

    steps: int
    AP: float
    AP50: float


GOAL = Measured(400, 0.75, 0.90)
# From LOG.md, 2026-11-28: three minutes on two cores without and with bfloat16.
REACHED = (Measured(674, 0.772, 0.950), Measured(989, 0.811, 0.967))


def more_time(found: Measured, minutes: float) -> str | None:
    """Return a sentence on what more `minutes` would give; None for a demo that reached its goal.

    It compares with demos that took more steps, and assumes that steps take as long as they did.
    """
    if not found.steps or (found.AP >= GOAL.AP and found.AP50 >= GOAL.AP50):
        return None
    below = (
        f"AP {percent(found.AP)} and AP50 {percent(found.AP50)} after {found.steps:,} steps: the "
        f"goal is {percent(GOAL.AP)} and {percent(GOAL.AP50)}."
    )
    longer = [each for each in REACHED if each.steps > found.steps]
    if not longer:
        return f"{below} More steps than these were not tried."
    better = longer[0]
    needed = math.ceil(2 * minutes * better.steps / found.steps) / 2
    return (
        f"{below} With {better.steps:,} steps, other runs reached {percent(better.AP)} and "
        f"{percent(better.AP50)}. At the pace of this machine they take {needed:g} minutes: "
        f"setmatch demo --minutes {needed:g} --out FOLDER"
    )
