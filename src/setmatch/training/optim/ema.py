"""EMA: an exponential moving average of the weights, for evaluation."""

import copy

import torch
from jaxtyping import Bool
from torch import Tensor, nn


class EMA:
    """Averages all parameters and floating-point buffers of a model, in float32.

    The decay after n finite steps is min(decay, (1 + n) / (10 + n)), as in TensorFlow's moving
    averages with `num_updates`. Initial weights are soon forgotten, and the mean age of the
    averaged weights is a tenth of the steps so far, until `decay` limits it: 0.998 limits it to
    500 steps, from step 4,490 on. With `warmup_steps` the decay of the n-th finite step is
    decay * (1 - exp(-n / warmup_steps)), as in the codes of RT-DETR (arXiv 2304.08069) and D-FINE.
    """

    def __init__(self, model: nn.Module, decay: float, warmup_steps: int = 0) -> None:
        self.decay, self.warmup_steps = decay, warmup_steps
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        device = next(self.model.parameters()).device
        self.updates = torch.zeros((), dtype=torch.float32, device=device)
        averages = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        sources = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        floating = [name for name, value in averages.items() if value.is_floating_point()]
        self._averages = [averages[name].detach() for name in floating]
        self._sources = [sources[name].detach() for name in floating]
        copied = [name for name in averages if name not in set(floating)]
        self._copies = [averages[name] for name in copied]
        self._originals = [sources[name] for name in copied]

    @torch.no_grad()
    def update(self, finite: Bool[Tensor, ""]) -> None:
        """Update the average with the model's weights if `finite`; otherwise change nothing."""
        if self.warmup_steps:
            decay = -self.decay * torch.expm1(-(1 + self.updates) / self.warmup_steps)
        else:
            decay = ((1 + self.updates) / (10 + self.updates)).clamp(max=self.decay)
        # A skipped step leaves the sources finite, so a weight of 0 leaves the average unchanged.
        weight = torch.where(finite, 1 - decay, 0.0)
        change = torch._foreach_sub(self._sources, self._averages)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(self._averages, change)
        if self._copies:
            torch._foreach_copy_(self._copies, self._originals)
        self.updates += finite
