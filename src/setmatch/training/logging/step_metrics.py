"""What happened since the last log line, read from the device at once; who spoilt a step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from setmatch.distributed import Distributed
from setmatch.errors import TrainingError
from setmatch.training.logging.writers import Value
from setmatch.training.step import StepResult


@dataclass(frozen=True)
class SkippedSteps:
    """Steps that were skipped because something in them was not finite."""

    total: int = 0
    in_a_row: int = 0


@dataclass(frozen=True)
class Reading:
    """Means over the steps taken since the last log line, and the names behind those skipped."""

    numbers: dict[str, Value]
    skips: SkippedSteps
    skipped: int
    blamed: tuple[str, ...]


class StepMetrics:
    """Collects steps without waiting for the device, until `read`."""

    def __init__(
        self, runtime: Distributed, name: Callable[[int], str], skips: SkippedSteps
    ) -> None:
        self._runtime = runtime
        self._name = name  # of an image, by its id
        self.skips = skips  # as of the last reading
        self._steps: list[StepResult] = []

    def add(self, learned: StepResult) -> None:
        """Take one step."""
        self._steps.append(learned)

    @property
    def empty(self) -> bool:
        """True when no step was taken since the last reading."""
        return not self._steps

    def read(self) -> Reading:
        """Return what was collected and start anew; all processes must call it together."""
        steps, self._steps = self._steps, []
        names = list(steps[0].terms)
        shares = torch.stack([torch.stack([step.terms[n] for n in names]) for step in steps])
        finite = torch.stack([step.finite for step in steps]).cpu()
        norms = torch.stack([step.norm for step in steps]).cpu()[finite]
        taken = self._runtime.sum(shares).cpu()[finite]
        numbers: dict[str, Value] = dict.fromkeys((*names, "grad_norm"))
        if len(taken):
            numbers = dict(zip(names, taken.mean(0).tolist(), strict=True))
            numbers["grad_norm"] = norms.mean().item()
        blamed: tuple[str, ...] = ()
        flags: list[bool] = finite.tolist()
        if not all(flags):
            bad = [step for step, good in zip(steps, flags, strict=True) if not good]
            blamed = self._blame(bad)
        for good in flags:
            in_a_row = 0 if good else self.skips.in_a_row + 1
            self.skips = SkippedSteps(self.skips.total + (not good), in_a_row)
        return Reading(numbers, self.skips, len(flags) - sum(flags), blamed)

    def _blame(self, bad: list[StepResult]) -> tuple[str, ...]:
        """Name the images whose loss was not finite; where all were, those of the whole window."""
        windows: set[int] = set()
        culprits: set[int] = set()
        for step in bad:
            for ids, good in zip(step.image_ids, step.micro_batch_finite.tolist(), strict=True):
                windows.update(ids)
                culprits.update(() if good else ids)
        gathered = self._runtime.gather((windows, culprits))
        culprits = set().union(*(theirs for _, theirs in gathered))
        windows = set().union(*(theirs for theirs, _ in gathered))
        return tuple(self._name(image_id) for image_id in sorted(culprits or windows))


def refuse_to_go_on(reading: Reading, limit: int) -> None:
    """Raise TrainingError, with advice and names, when `limit` steps in a row were skipped."""
    if reading.skips.in_a_row >= limit:
        raise TrainingError(
            f"{reading.skips.in_a_row} steps in a row were not finite, last with "
            f"{listed(reading.blamed)}: try a lower train.lr, train.backbone_lr and train.muon_lr, "
            "train.precision=float32, a longer train.warmup_steps (in a run by epochs), or other "
            "weights to start from; look at these images and their boxes"
        )


def listed(names: tuple[str, ...], shown: int = 8) -> str:
    """Return the first names in words, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
