"""The counts that losses are divided by, summed over an optimizer step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.errors import ConfigError, short
from setmatch.structures.batch import Target, require_targets


@dataclass(frozen=True, eq=False)
class LossNormalizer:
    """Counts over all micro-batches and processes of an optimizer step.

    `counts` holds target boxes, matched queries, queries and images. With these totals the losses
    of the micro-batches add up to the loss of the whole step. (The published code divides by the
    counts of one process' batch.)
    """

    counts: Float[Tensor, "4"]

    @classmethod
    def of(
        cls, targets: Sequence[Target], num_queries: int, device: torch.device | str = "cpu"
    ) -> "LossNormalizer":
        """Count the targets of some images. Sum `counts` over processes and micro-batches.

        Raises DataError for anything but a list of targets, and ConfigError without queries.
        """
        given: Any = targets
        require_targets(targets, len(given) if isinstance(given, Sequence) else 0, None)
        if not isinstance(num_queries, int) or num_queries < 1:
            raise ConfigError(
                f"LossNormalizer: num_queries = {short(num_queries)}; give the number of queries "
                "of an image, such as model.num_queries"
            )
        sizes = [len(target) for target in targets]
        matched = sum(min(size, num_queries) for size in sizes)
        counts = [sum(sizes), matched, len(sizes) * num_queries, len(sizes)]
        return cls(torch.tensor(counts, dtype=torch.float32, device=device))

    def times(self, repeats: int) -> "LossNormalizer":
        """Return the counts for a prediction group that holds every target `repeats` times."""
        if repeats == 1:
            return self
        return LossNormalizer(torch.cat([self.counts[:3] * repeats, self.counts[3:]]))

    def with_matches(self, per_box: float) -> "LossNormalizer":
        """Return the counts if every target box of the step is matched `per_box` times.

        It is a mean over the micro-batch at hand, whose losses are thus averaged over its own
        matches, and weighted by its part of the step's boxes.
        """
        matches = self.counts[0] * per_box
        return LossNormalizer(torch.stack([matches, matches, *self.counts[2:]]))

    def matched_and_others(self, queries: int) -> Float[Tensor, "2"]:
        """Return how many queries are matched, and how many are not, of so many in each image."""
        others = (self.images * queries - self.matched).clamp(min=0)
        return torch.stack([self.matched, others])

    @property
    def boxes(self) -> Float[Tensor, ""]:
        """Number of target boxes."""
        return self.counts[0]

    @property
    def matched(self) -> Float[Tensor, ""]:
        """Number of matched queries; an image matches at most as many as it has queries."""
        return self.counts[1]

    @property
    def queries(self) -> Float[Tensor, ""]:
        """Number of queries in all images."""
        return self.counts[2]

    @property
    def images(self) -> Float[Tensor, ""]:
        """Number of images."""
        return self.counts[3]
