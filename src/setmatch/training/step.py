"""One optimizer step: forward and backward over a window of micro-batches, then one update."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.data.batches.loader import Minibatch
from setmatch.distributed import Distributed, no_sync
from setmatch.losses.base import Loss
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.detector import Detector
from setmatch.training.machine.micro_batch import (
    explain_oom,
    explain_single_value,
    is_out_of_memory,
)
from setmatch.training.optim.batch_norm_stats import BatchNormStats
from setmatch.training.optim.ema import EMA
from setmatch.training.optim.optimizer import CombinedOptimizer, apply_gradients
from setmatch.training.schedule.progressive_resizing import downscale


@dataclass(frozen=True)
class StepResult:
    """What a step logs. It stays on the device, so that the next step need not wait.

    `terms` are this process' parts of the window's losses. `micro_batch_finite` is True for each
    of its micro-batches with a finite loss; `finite` is True if the step was taken, and the same in
    all processes.
    """

    terms: dict[str, Tensor]
    norm: Float[Tensor, ""]
    finite: Bool[Tensor, ""]
    micro_batch_finite: Bool[Tensor, " A"]
    image_ids: tuple[tuple[int, ...], ...]  # of each micro-batch


@dataclass(frozen=True)
class TrainStep:
    """Everything that a step reads and changes."""

    distributed: Distributed
    detector: Detector
    wrapped: nn.Module  # the detector in DistributedDataParallel, if there are several processes
    loss: Loss
    loss_by_quality: Loss  # the same, with queries matched by quality alone
    optimizer: CombinedOptimizer
    batch_norm_stats: BatchNormStats
    ema: EMA | None
    precision: torch.dtype
    clip_norm: float

    @property
    def inference_model(self) -> Detector:
        """The detector to evaluate and save: the EMA if there is one."""
        if self.ema is None:
            return self.detector
        return cast(Detector, self.ema.model)  # a copy of the detector

    def step(
        self,
        window: Sequence[Minibatch],
        normalizer: LossNormalizer,
        seeds: Sequence[int],
        resolution_scale: float = 1.0,
        by_quality: bool = False,
    ) -> StepResult:
        """Take one step on the micro-batches of `window`.

        `normalizer` counts the window over all processes. `seeds`, one for each micro-batch, seed
        everything random in the model. Images are resized by `resolution_scale`. Queries are
        matched `by_quality` alone, or by the costs of the recipe. After a loss or
        gradient that is not finite, nothing changes: no weight, moment, statistic or EMA. Neither
        does anything, in one process, when memory does not suffice, which raises torch's error.
        """
        self.batch_norm_stats.snapshot()
        device = self.distributed.device
        loss = self.loss_by_quality if by_quality else self.loss
        normalizer = LossNormalizer(normalizer.counts.to(device, non_blocking=True))
        parts: list[dict[str, Tensor]] = []
        with self._undone_without_memory():
            for index, (minibatch, seed) in enumerate(zip(window, seeds, strict=True)):
                is_last = index == len(window) - 1
                torch.manual_seed(seed)
                with no_sync(self.wrapped, skip=not is_last):
                    resized = downscale(minibatch.to(device), resolution_scale)
                    parts.append(self._backward(resized, loss, normalizer))
        with explain_oom(len(window[0].targets)):  # weights may have changed: nothing to repeat
            norm, finite = apply_gradients(self.optimizer, self.clip_norm)
        self.batch_norm_stats.commit(finite)
        if self.ema is not None:
            self.ema.update(finite)
        terms = {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]}
        micro_batch_finite = torch.stack([part["loss"] for part in parts]).isfinite()
        return StepResult(
            terms, norm, finite, micro_batch_finite, tuple(m.image_ids for m in window)
        )

    def rehearse(self, minibatch: Minibatch) -> None:
        """Compute the gradients of a minibatch and forget them; nothing changes.

        Raises torch's error when memory does not suffice.
        """
        self.batch_norm_stats.snapshot()
        normalizer = LossNormalizer.of(minibatch.targets, self.detector.num_queries)
        try:
            with torch.random.fork_rng(devices=[]):
                self._backward(minibatch, self.loss, normalizer)
        finally:
            self._forget()

    def _forget(self) -> None:
        """Remove what a step has added to gradients and to the statistics of batch norms."""
        self.optimizer.zero_grad()
        nothing = torch.zeros((), dtype=torch.bool, device=self.distributed.device)
        self.batch_norm_stats.commit(nothing)

    @contextmanager
    def _undone_without_memory(self) -> Iterator[None]:
        """Change nothing where memory does not suffice, so that the step can be repeated.

        Several processes cannot repeat it, since they no longer exchange the same gradients.
        """
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error) and self.distributed.world == 1:
                self._forget()
            raise

    def _backward(
        self, minibatch: Minibatch, loss: Loss, normalizer: LossNormalizer
    ) -> dict[str, Tensor]:
        """Add the gradients of a micro-batch and return its loss terms."""
        device_type, precision = self.distributed.device.type, self.precision
        with (
            torch.autocast(device_type, dtype=precision, enabled=precision != torch.float32),
            explain_single_value(minibatch.batch),
        ):
            outputs = self.wrapped(minibatch.batch, minibatch.targets)
        losses = loss(outputs, minibatch.targets, normalizer)
        # DDP averages gradients over processes, but the loss is a sum: scale by their number. A
        # loss that is not finite makes all gradients NaN, so that every process skips the step,
        # even if the backward pass would have hidden it.
        finite = losses.total.detach().isfinite()
        scale = torch.where(finite, float(self.distributed.world), float("nan"))
        torch.autograd.backward(losses.total * scale)
        return losses.terms
