"""What makes runs comparable: a clock that repeats, sides that were seen, and float64."""

from dataclasses import replace

import tiny_runs

from setmatch.training import setup as start
from setmatch.training import start_run
from setmatch.training import step as learner
from setmatch.training.logging.clock import Clock


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
    sides, downscale = [], learner.downscale

    def noted(minibatch, share):
        seen = downscale(minibatch, share)
        sides.append(min(seen.batch.pixels.shape[-2:]))
        return seen

    monkeypatch.setattr(learner, "downscale", noted)
    return sides


def float64_from(initialize):
    """Return what builds the same detector in float64, in which no rounding comes near a kink."""

    def finer(_, given):
        batch, *rest = given
        return replace(batch, pixels=batch.pixels.double()), *rest

    def doubled(*given):
        detector = initialize(*given).double()
        detector.register_forward_pre_hook(finer)
        return detector

    return doubled


def exact_main(out, data, overrides, environment, said):
    """Be one process of a run in float64; the clocks of all but the first run far too fast."""

    class Racing(SteadyClock):
        @property
        def spent_s(self):
            return 1000 * super().spent_s

    start.initialize = float64_from(start.initialize)
    start_run.Clock = SteadyClock if environment["RANK"] == "0" else Racing
    tiny_runs.main(out, data, overrides, environment, said)
