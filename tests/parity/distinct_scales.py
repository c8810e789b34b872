"""Random weights by which swapped parts of a model would show."""

import torch
from torch import nn


def give_distinct_scales(model: nn.Module, fixed: tuple[str, ...] = ()) -> None:
    """Give tensors that follow each other different scales, except names that end in `fixed`."""
    generator = torch.Generator().manual_seed(0)
    named = [*model.named_parameters(), *model.named_buffers()]
    with torch.no_grad():
        for number, (name, tensor) in enumerate(named):
            if name.endswith(fixed) or not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            scale = 0.7 + 0.1 * (number % 7)
            if name.endswith("running_var"):
                tensor.copy_(0.6 + noise.abs())
            elif tensor.ndim >= 2:
                tensor.copy_(scale * noise / tensor[0].numel() ** 0.5)
            elif name.endswith(("weight", "scale")):
                tensor.copy_(scale + 0.2 * noise)
            else:
                tensor.copy_(0.2 * scale * noise)
