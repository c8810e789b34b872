"""Backbones whose batch norms may keep the statistics and weights that they were loaded with."""

from typing import Self

from torch import nn


class BackboneWithNorms(nn.Module):
    """A backbone with batch norms, which `freeze_norms` keeps in evaluation and untrained."""

    frozen_norms = False

    def freeze_norms(self) -> None:
        """Fix the statistics and weights of all batch norms."""
        self.frozen_norms = True
        for norm in self._norms():
            norm.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen norms stay in evaluation."""
        super().train(mode)
        if self.frozen_norms:
            for norm in self._norms():
                norm.eval()
        return self

    def _norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
