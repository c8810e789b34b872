"""Train as setmatch does, with sizes of pictures drawn between the growing one and the whole.

    python benchmarks/drawn_sizes.py train DATA --model setmatch_n --weights none --minutes 30

The arguments are those of `setmatch`; every step draws anew.
"""

import sys

import numpy as np

from setmatch.cli import main
from setmatch.training.schedule import Schedule

growing = Schedule.resolution_scale


def drawn(self: Schedule, step: int, spent_s: float = 0.0) -> float:
    """Return a share of sides between the growing one and 1."""
    least = growing(self, step, spent_s)
    return least + (1 - least) * np.random.default_rng([self.settings.seed, step]).random()


if __name__ == "__main__":
    Schedule.resolution_scale = drawn  # type: ignore[method-assign]
    sys.exit(main())
