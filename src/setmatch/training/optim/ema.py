"""The exponential moving average of the weights: a second model that is never trained."""

import copy

import torch
from jaxtyping import Bool
from torch import Tensor, nn


class EMA:
    """Averages all parameters and floating buffers of a model, in float32.

    The decay is min(decay, (1 + n) / (10 + n)) at the n-th finite step (as in TensorFlow's
    moving averages with `num_updates`), so that the random start is soon forgotten, and weights are
    on average those of a tenth of the steps ago, however long the run. `decay` ends that: 0.998
    holds the average to 500 steps back from the 4,490th on.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        device = next(self.model.parameters()).device
        self.updates = torch.zeros((), dtype=torch.float32, device=device)
        mine = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        theirs = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        moving = [name for name, value in mine.items() if value.is_floating_point()]
        self._averaged = [mine[name].detach() for name in moving]
        self._sources = [theirs[name].detach() for name in moving]
        fixed = [name for name in mine if name not in set(moving)]
        self._copies = [mine[name] for name in fixed]
        self._originals = [theirs[name] for name in fixed]

    @torch.no_grad()
    def update(self, finite: Bool[Tensor, ""]) -> None:
        """Move toward the model's weights if `finite`; otherwise change nothing."""
        decay = ((1 + self.updates) / (10 + self.updates)).clamp(max=self.decay)
        # A skipped step left the sources finite, so that a weight of 0 leaves the average alone.
        weight = torch.where(finite, 1 - decay, 0.0)
        change = torch._foreach_sub(self._sources, self._averaged)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(self._averaged, change)
        if self._copies:
            torch._foreach_copy_(self._copies, self._originals)
        self.updates += finite
