"""One optimizer step: a window of micro-batches goes through the model, the weights move once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.data.loader import Minibatch
from setmatch.distributed import Distributed, no_sync
from setmatch.losses.base import Loss
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.detector import Detector
from setmatch.training.optim.batch_norm_stats import BatchNormStats
from setmatch.training.optim.ema import EMA
from setmatch.training.optim.optimizer import CombinedOptimizer, apply_gradients
from setmatch.training.progressive_resizing import downscale


@dataclass(frozen=True)
class StepResult:
    """What a step leaves for the log: on the device, so that the next step need not wait.

    `terms` are this process' shares of the window's losses; `micro_batch_finite` says of each of
    its
    micro-batches whether the loss was finite, `finite` whether the step was taken, in all processes
    alike.
    """

    terms: dict[str, Tensor]
    norm: Float[Tensor, ""]
    finite: Bool[Tensor, ""]
    micro_batch_finite: Bool[Tensor, " A"]
    image_ids: tuple[tuple[int, ...], ...]  # of each micro-batch


@dataclass(frozen=True)
class TrainStep:
    """All that a step reads and changes."""

    runtime: Distributed
    detector: Detector
    wrapped: nn.Module  # the detector as the processes share it
    objective: Loss
    optimizer: CombinedOptimizer
    norms: BatchNormStats
    average: EMA | None
    precision: torch.dtype
    clip_norm: float

    @property
    def answers(self) -> Detector:
        """The detector to evaluate and keep: the average where there is one."""
        if self.average is None:
            return self.detector
        return cast(Detector, self.average.model)  # a copy of the detector

    def learn(
        self,
        window: Sequence[Minibatch],
        normalizer: LossNormalizer,
        seeds: Sequence[int],
        resolution_scale: float = 1.0,
    ) -> StepResult:
        """Take one step on the window's micro-batches; `normalizer` counts those of all processes.

        `seeds` are those of all that is random in the model, one for each micro-batch; pictures
        are shrunk to `resolution_scale`. A loss or gradient that is not finite changes nothing: no
        weight, moment, statistic or average.
        """
        self.norms.keep()
        device = self.runtime.device
        normalizer = LossNormalizer(normalizer.counts.to(device, non_blocking=True))
        shares: list[dict[str, Tensor]] = []
        for place, (minibatch, seed) in enumerate(zip(window, seeds, strict=True)):
            last = place == len(window) - 1
            torch.manual_seed(seed)
            with no_sync(self.wrapped, skip=not last):
                seen = downscale(minibatch.to(device), resolution_scale)
                shares.append(self._share(seen, normalizer))
        norm, finite = apply_gradients(self.optimizer, self.clip_norm)
        self.norms.settle(finite)
        if self.average is not None:
            self.average.update(finite)
        terms = {name: torch.stack([s[name] for s in shares]).sum(0) for name in shares[0]}
        micro_batch_finite = torch.stack([share["loss"] for share in shares]).isfinite()
        return StepResult(
            terms, norm, finite, micro_batch_finite, tuple(m.image_ids for m in window)
        )

    def _share(self, minibatch: Minibatch, normalizer: LossNormalizer) -> dict[str, Tensor]:
        """Add a micro-batch's share to the gradients and return its loss terms."""
        kind, precision = self.runtime.device.type, self.precision
        with torch.autocast(kind, dtype=precision, enabled=precision != torch.float32):
            outputs = self.wrapped(minibatch.batch, minibatch.targets)
        losses = self.objective(outputs, minibatch.targets, normalizer)
        # DDP averages over processes where the loss is a sum. A loss that is not finite spoils all
        # gradients, so that they tell every process, even where the maths would have hidden it.
        finite = losses.total.detach().isfinite()
        scale = torch.where(finite, float(self.runtime.world), float("nan"))
        (losses.total * scale).backward()  # type: ignore[no-untyped-call]
        return losses.terms
