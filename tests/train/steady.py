"""A clock that makes runs by the clock repeatable, and the sides that pictures grow by."""

import tiny

from setmatch.train import learner, loop
from setmatch.train.clock import Clock


class SteadyClock(Clock):
    """A clock on which every step, with whatever came before it, takes a quarter of a second."""

    def __init__(self, spent_s):
        super().__init__(spent_s)
        self.now_s = spent_s

    @property
    def spent_s(self):
        self.now_s += 0.25
        return self.now_s


def sides_seen(monkeypatch):
    """Return a list to which every step from now on adds the short side of what it sees."""
    sides, shrunk = [], learner.shrunk

    def noted(minibatch, share):
        seen = shrunk(minibatch, share)
        sides.append(min(seen.batch.pixels.shape[-2:]))
        return seen

    monkeypatch.setattr(learner, "shrunk", noted)
    return sides


def main_on_a_steady_clock(out, data, overrides, environment, said):
    """Be one process of a run; the clocks of all but the first run a thousand times faster."""

    class Racing(SteadyClock):
        @property
        def spent_s(self):
            return 1000 * super().spent_s

    loop.Clock = SteadyClock if environment["RANK"] == "0" else Racing
    tiny.main(out, data, overrides, environment, said)
