"""Settings that all model families share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Width:
    """Queries and width of any model, and what must fit together in them."""

    num_queries: int = 100
    dim: int = 256
    heads: int = 8

    def validate(self) -> str:
        """Return what does not fit together, or nothing."""
        if self.dim % self.heads == 0 and self.dim % 4 == 0:
            return ""
        return (
            f"dim = {self.dim} must be a multiple of heads = {self.heads}, and of 4 for the "
            "positions"
        )
