"""Random targets whose boxes lie inside their images."""

import torch

from setmatch.structures.batch import Target


def random_targets(counts: tuple[int, ...], classes: int) -> list[Target]:
    """Return one target for each image, with `counts` boxes of the given number of classes."""
    generator = torch.Generator().manual_seed(2)

    def uniform(count: int, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, 2, generator=generator)

    return [
        Target(
            torch.randint(classes, (count,), generator=generator),
            torch.cat([uniform(count, 0.3, 0.7), uniform(count, 0.1, 0.5)], dim=1),
        )
        for count in counts
    ]
