"""One optimiser step: a window of micro-batches goes through the model, the weights move once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.data.loader import Minibatch
from setmatch.losses.base import Objective
from setmatch.losses.criterion import Normaliser
from setmatch.models.detector import Detector
from setmatch.training.distributed import Runtime, without_exchange
from setmatch.training.optim.batch_norm_stats import NormStatistics
from setmatch.training.optim.ema import Average
from setmatch.training.optim.optimizer import Together, apply_gradients
from setmatch.training.progressive_resizing import shrunk


@dataclass(frozen=True)
class Learned:
    """What a step leaves for the log: on the device, so that the next step need not wait.

    `terms` are this process' shares of the window's losses; `blameless` says of each of its
    micro-batches whether the loss was finite, `finite` whether the step was taken, in all processes
    alike.
    """

    terms: dict[str, Tensor]
    norm: Float[Tensor, ""]
    finite: Bool[Tensor, ""]
    blameless: Bool[Tensor, " A"]
    image_ids: tuple[tuple[int, ...], ...]  # of each micro-batch


@dataclass(frozen=True)
class Learner:
    """All that a step reads and changes."""

    runtime: Runtime
    detector: Detector
    wrapped: nn.Module  # the detector as the processes share it
    objective: Objective
    optimizer: Together
    norms: NormStatistics
    average: Average | None
    precision: torch.dtype
    clip_norm: float

    @property
    def answers(self) -> Detector:
        """The detector to evaluate and keep: the average where there is one."""
        if self.average is None:
            return self.detector
        assert isinstance(self.average.model, Detector), "the average is a copy of the detector"
        return self.average.model

    def learn(
        self,
        window: Sequence[Minibatch],
        normaliser: Normaliser,
        seeds: Sequence[int],
        share_of_sides: float = 1.0,
    ) -> Learned:
        """Take one step on the window's micro-batches; `normaliser` counts those of all processes.

        `seeds` are those of all that is random in the model, one for each micro-batch; pictures
        are shrunk to `share_of_sides`. A loss or gradient that is not finite changes nothing: no
        weight, moment, statistic or average.
        """
        self.norms.keep()
        device = self.runtime.device
        normaliser = Normaliser(normaliser.counts.to(device, non_blocking=True))
        shares: list[dict[str, Tensor]] = []
        for place, (minibatch, seed) in enumerate(zip(window, seeds, strict=True)):
            last = place == len(window) - 1
            torch.manual_seed(seed)
            with without_exchange(self.wrapped, skip=not last):
                seen = shrunk(minibatch.to(device), share_of_sides)
                shares.append(self._share(seen, normaliser))
        norm, finite = apply_gradients(self.optimizer, self.clip_norm)
        self.norms.settle(finite)
        if self.average is not None:
            self.average.update(finite)
        terms = {name: torch.stack([s[name] for s in shares]).sum(0) for name in shares[0]}
        blameless = torch.stack([share["loss"] for share in shares]).isfinite()
        return Learned(terms, norm, finite, blameless, tuple(m.image_ids for m in window))

    def _share(self, minibatch: Minibatch, normaliser: Normaliser) -> dict[str, Tensor]:
        """Add a micro-batch's share to the gradients and return its loss terms."""
        kind, precision = self.runtime.device.type, self.precision
        with torch.autocast(kind, dtype=precision, enabled=precision != torch.float32):
            outputs = self.wrapped(minibatch.batch, minibatch.targets)
        losses = self.objective(outputs, minibatch.targets, normaliser)
        # DDP averages over processes where the loss is a sum. A loss that is not finite spoils all
        # gradients, so that they tell every process, even where the maths would have hidden it.
        finite = losses.total.detach().isfinite()
        scale = torch.where(finite, float(self.runtime.world), float("nan"))
        (losses.total * scale).backward()  # type: ignore[no-untyped-call]
        return losses.terms
