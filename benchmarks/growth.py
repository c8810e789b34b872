"""Train with pictures whose sides grow by another rule than the library's.

    python benchmarks/growth.py RULE train DATA --model setmatch_n --weights none --minutes 30

RULE is one of those below; what follows are the arguments of `setmatch`.
"""

import sys
from collections.abc import Callable

import numpy as np

from setmatch.cli import main
from setmatch.train.growing import share_of_sides
from setmatch.train.plan import Plan

Rule = Callable[[float, float, float], float]


def growing(progress: float, grown: float, drawn: float) -> float:
    """Return the library's share."""
    return share_of_sides(progress, grown)


def between(progress: float, grown: float, drawn: float) -> float:
    """Return a share between the growing one and the whole."""
    least = share_of_sides(progress, grown)
    return least + (1 - least) * drawn


RULES: dict[str, Rule] = {rule.__name__: rule for rule in (growing, between)}


def follow(rule: Rule) -> None:
    """Let every run of this process follow `rule`.

    It is told the run's progress, `train.grown`, and a number drawn anew for every step, 0 to 1.
    """

    def share(self: Plan, step: int, spent_s: float = 0.0) -> float:
        if step == 0:
            return 1.0
        drawn = np.random.default_rng([self.settings.seed, step]).random()
        return rule(self.progress(step, spent_s), self.settings.grown, drawn)

    Plan.share_of_sides = share  # type: ignore[method-assign]


if __name__ == "__main__":
    _, name, *arguments = sys.argv
    follow(RULES[name])
    sys.exit(main(arguments))
