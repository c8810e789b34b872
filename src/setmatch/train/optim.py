"""The optimiser: AdamW with two learning rates, which skips a step that is not finite by itself."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.config import TrainSettings


class SkippingAdamW(torch.optim.AdamW):
    """AdamW whose fused kernel leaves everything as it was where `found_inf` is 1.

    The flag stays on the device, so that no step waits for an answer; it is the field that torch's
    gradient scaler sets for the same purpose.
    """

    found_inf: Tensor


def build_optimizer(
    groups: Mapping[str, Sequence[nn.Parameter]], settings: TrainSettings
) -> SkippingAdamW:
    """Return AdamW over the groups "backbone" and "rest", each with its own learning rate.

    Source: Loshchilov and Hutter (arXiv 1711.05101); rates of arXiv 2005.12872, appendix A.4.
    """
    rates = {"backbone": settings.backbone_lr, "rest": settings.lr}
    assert set(groups) == set(rates), "the detector's groups are backbone and rest"
    return SkippingAdamW(
        [
            {"params": list(groups[name]), "lr": rate, "full_lr": rate, "name": name}
            for name, rate in rates.items()
            if groups[name]
        ],
        weight_decay=settings.weight_decay,
        fused=True,
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its full one."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["full_lr"]


def apply_gradients(
    optimizer: SkippingAdamW, clip_norm: float
) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
    """Clip the gradients to `clip_norm`, step unless one is not finite, and forget them.

    Returns the norm before clipping and whether the step was taken, both still on the device. A
    step not taken changes no parameter, moment or step count by a bit.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    finite = torch.isfinite(norm)
    optimizer.found_inf = (~finite).float()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, finite


class NormStatistics:
    """The running statistics of trainable batch norms, which a bad forward spoils before any loss.

    `keep` remembers them before a step, `settle` brings them back if the step was not finite.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.buffers = [buffer for norm in norms for buffer in norm.buffers()]
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """Remember the statistics as they are."""
        self._kept = [buffer.clone() for buffer in self.buffers]

    def settle(self, finite: Bool[Tensor, ""]) -> None:
        """Bring back what was kept unless `finite`; the host does not wait to know."""
        for buffer, kept in zip(self.buffers, self._kept, strict=True):
            buffer.copy_(torch.where(finite, buffer, kept))
