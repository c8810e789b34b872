"""Ways to read a class logit: cost, loss and probability live in one object, so they agree."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Scores:
    """The answers of every image: score, class slot, and the query that gave it."""

    score: Float[Tensor, "B K"]
    slot: Int[Tensor, "B K"]
    query: Int[Tensor, "B K"]


@dataclass(frozen=True)
class Matches:
    """Matched queries of all decoder layers, flat: where they stand and which class they owe."""

    layer: Int[Tensor, " M"]
    image: Int[Tensor, " M"]
    query: Int[Tensor, " M"]
    slot: Int[Tensor, " M"]


@runtime_checkable
class Scoring(Protocol):
    """What matching, criterion and postprocess ask of a way to score classes."""

    def num_logits(self, num_classes: int) -> int:
        """Return how many logits a class head needs for `num_classes` class slots."""

    def cost(
        self, logits: Float[Tensor, "L B Q C"], slots: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B Q T"]:
        """Return the class part of the matching cost of every query for every target slot."""

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: Matches, slots: Tensor, matched: Tensor
    ) -> Float[Tensor, " L"]:
        """Return the class loss of each layer, normalised by the counts of the whole window."""

    def read(self, logits: Float[Tensor, "B Q C"]) -> Scores:
        """Return the answers of one decoder layer."""


@dataclass(frozen=True)
class Softmax:
    """One of C classes or "no object", the last logit (arXiv 2005.12872, section 3.1)."""

    no_object_weight: float = 0.1

    def num_logits(self, num_classes: int) -> int:
        """Return one logit more than there are classes, for "no object"."""
        return num_classes + 1

    def cost(
        self, logits: Float[Tensor, "L B Q C"], slots: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B Q T"]:
        """Return minus the probability of each target's class."""
        layers, _, queries, _ = logits.shape
        index = slots[None, :, None, :].expand(layers, -1, queries, -1)
        return -logits.softmax(-1).gather(-1, index)

    def loss(
        self,
        logits: Float[Tensor, "L B Q C"],
        matches: Matches,
        slots: Float[Tensor, ""],
        matched: Float[Tensor, ""],
    ) -> Float[Tensor, " L"]:
        """Return cross-entropy over all slots, "no object" weighing `no_object_weight`.

        It is the weighted mean over `slots` query slots of which `matched` owe an object: counts
        of the whole accumulation window over all processes, so that shares add up to its loss.
        """
        no_object = logits.shape[-1] - 1
        owed = torch.full(logits.shape[:-1], no_object, device=logits.device)
        owed[matches.layer, matches.image, matches.query] = matches.slot
        weight = torch.where(owed == no_object, self.no_object_weight, 1.0)
        surprise = F.cross_entropy(logits.flatten(0, 2), owed.flatten(), reduction="none")
        total = matched + self.no_object_weight * (slots - matched)
        return (surprise.view_as(weight) * weight).sum((1, 2)) / total

    def read(self, logits: Float[Tensor, "B Q C"]) -> Scores:
        """Return for every query its best real class, "no object" left out of the choice."""
        score, slot = logits.softmax(-1)[..., :-1].max(-1)
        query = torch.arange(logits.shape[1], device=logits.device).expand_as(slot)
        return Scores(score, slot, query)
