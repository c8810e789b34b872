"""Memories of two images for the parts that read one."""

import torch

from setmatch.models.layers.encoders.hybrid_encoder import Memory


def memory_of(shapes: tuple[tuple[int, int], ...], dim: int, seed: int = 0) -> Memory:
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, sum(h * w for h, w in shapes), dim, generator=random)
    return Memory(tokens, shapes)
