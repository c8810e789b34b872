"""Helpers for reproducible runs: a fixed clock, the image sizes of each step, and float64."""

from dataclasses import replace

import tiny_runs

from setmatch.training import step as train_step
from setmatch.training.logging.clock import Clock
from setmatch.training.start import setup, start_run


class FixedStepClock(Clock):
    """A clock that advances by a quarter of a second each time it is read, once per step."""

    def __init__(self, spent_s):
        super().__init__(spent_s)
        self.now_s = spent_s

    @property
    def spent_s(self):
        self.now_s += 0.25
        return self.now_s


def sides_seen(monkeypatch):
    """Return a list to which every later step appends the short side of its images."""
    sides, downscale = [], train_step.downscale

    def recording(minibatch, scale):
        downscaled = downscale(minibatch, scale)
        sides.append(min(downscaled.batch.pixels.shape[-2:]))
        return downscaled

    monkeypatch.setattr(train_step, "downscale", recording)
    return sides


def float64_from(initialize):
    """Return an `initialize` that builds the detector in float64.

    In float32, rounding decides the side of non-differentiable points, so gradients jump.
    """

    def to_double(_, arguments):
        batch, *rest = arguments
        return replace(batch, pixels=batch.pixels.double()), *rest

    def initialize_double(*arguments):
        detector = initialize(*arguments).double()
        detector.register_forward_pre_hook(to_double)
        return detector

    return initialize_double


def float64_main(out, data, overrides, environment, log):
    """Run one process in float64; the clocks of all ranks but the first run 1000 times too fast."""

    class FastClock(FixedStepClock):
        @property
        def spent_s(self):
            return 1000 * super().spent_s

    setup.initialize = float64_from(setup.initialize)
    start_run.Clock = FixedStepClock if environment["RANK"] == "0" else FastClock
    tiny_runs.main(out, data, overrides, environment, log)
