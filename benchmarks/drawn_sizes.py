"""Train as `setmatch train` does, with image sizes drawn between the scheduled and the full one.

    python benchmarks/drawn_sizes.py train DATA --model setmatch_n --weights none --minutes 30

The arguments are those of `setmatch`. Every step draws a new size.
"""

import sys

import numpy as np

from setmatch.cli import main
from setmatch.training.schedule.schedule import Schedule

scheduled = Schedule.resolution_scale


def draw_scale(self: Schedule, step: int, spent_s: float = 0.0) -> float:
    """Return a random scale between the scheduled one and 1."""
    least = scheduled(self, step, spent_s)
    return least + (1 - least) * np.random.default_rng([self.settings.seed, step]).random()


if __name__ == "__main__":
    Schedule.resolution_scale = draw_scale  # type: ignore[method-assign]
    sys.exit(main())
