"""Means over the steps since the last log line, and the images behind skipped steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from setmatch.distributed import Distributed
from setmatch.errors import TrainingError
from setmatch.training.logging.writers import Value
from setmatch.training.step import StepResult


@dataclass(frozen=True)
class SkippedSteps:
    """Counts of steps that were skipped because a loss or gradient was not finite."""

    total: int = 0
    in_a_row: int = 0


@dataclass(frozen=True)
class StepSummary:
    """Means over the steps since the last log line, and the images behind the skipped ones."""

    numbers: dict[str, Value]
    skips: SkippedSteps
    skipped: int
    suspects: tuple[str, ...]  # names of images


class StepMetrics:
    """Collects the results of steps, without waiting for the device until `summarize`."""

    def __init__(
        self, distributed: Distributed, name: Callable[[int], str], skips: SkippedSteps
    ) -> None:
        self._distributed = distributed
        self._name = name  # of an image, by its id
        self.skips = skips  # as of the last summary
        self._steps: list[StepResult] = []

    def add(self, result: StepResult) -> None:
        """Add the result of one step."""
        self._steps.append(result)

    @property
    def empty(self) -> bool:
        """True if no step was added since the last summary."""
        return not self._steps

    def summarize(self) -> StepSummary:
        """Return the summary of the collected steps and clear them, in all processes together."""
        steps, self._steps = self._steps, []
        names = list(steps[0].terms)
        parts = torch.stack([torch.stack([step.terms[n] for n in names]) for step in steps])
        finite = torch.stack([step.finite for step in steps]).cpu()
        norms = torch.stack([step.norm for step in steps]).cpu()[finite]
        taken = self._distributed.sum(parts).cpu()[finite]
        numbers: dict[str, Value] = dict.fromkeys((*names, "grad_norm"))
        if len(taken):
            numbers = dict(zip(names, taken.mean(0).tolist(), strict=True))
            numbers["grad_norm"] = norms.mean().item()
        suspects: tuple[str, ...] = ()
        flags: list[bool] = finite.tolist()
        if not all(flags):
            skipped = [step for step, is_finite in zip(steps, flags, strict=True) if not is_finite]
            suspects = self._find_suspects(skipped)
        for is_finite in flags:
            in_a_row = 0 if is_finite else self.skips.in_a_row + 1
            self.skips = SkippedSteps(self.skips.total + (not is_finite), in_a_row)
        return StepSummary(numbers, self.skips, len(flags) - sum(flags), suspects)

    def _find_suspects(self, skipped: list[StepResult]) -> tuple[str, ...]:
        """Return the names of images with a loss that is not finite.

        If all losses are finite (but a gradient is not), they are those of the whole window.
        """
        window: set[int] = set()
        nonfinite: set[int] = set()
        for step in skipped:
            for ids, is_finite in zip(
                step.image_ids, step.micro_batch_finite.tolist(), strict=True
            ):
                window.update(ids)
                nonfinite.update(() if is_finite else ids)
        gathered = self._distributed.gather((window, nonfinite))
        nonfinite = set().union(*(ids for _, ids in gathered))
        window = set().union(*(ids for ids, _ in gathered))
        return tuple(self._name(image_id) for image_id in sorted(nonfinite or window))


def check_skipped_steps(summary: StepSummary, limit: int) -> None:
    """Raise TrainingError, with advice and image names, if `limit` steps in a row were skipped."""
    if summary.skips.in_a_row >= limit:
        raise TrainingError(
            f"{summary.skips.in_a_row} steps in a row had a loss or gradient that is not finite, "
            f"most recently with {listed(summary.suspects)}: inspect these images and their boxes; "
            "try a lower train.lr, train.backbone_lr and train.muon_lr, train.precision=float32, a "
            "longer train.warmup_steps (in a run of epochs), or other initial weights"
        )


def listed(names: tuple[str, ...], shown: int = 8) -> str:
    """Return the first names as text, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
