"""Ways to read a class logit: cost, loss and probability live in one object, so they agree."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Scores:
    """The answers of every image: score, class slot, and the query that gave it.

    `no_object_prob` is how probable the query found "no object", 0 where that is no answer.
    """

    score: Float[Tensor, "B K"]
    class_index: Int[Tensor, "B K"]
    query: Int[Tensor, "B K"]
    no_object_prob: Float[Tensor, "B K"]


@dataclass(frozen=True)
class MatchedQueries:
    """Matched queries of all decoder layers, flat: where they stand and which class they owe."""

    layer: Int[Tensor, " M"]
    image: Int[Tensor, " M"]
    query: Int[Tensor, " M"]
    class_index: Int[Tensor, " M"]
    iou: Float[Tensor, " M"]  # of the matched pair, without gradient


class LossCounts(NamedTuple):
    """What losses are divided by, summed over a whole window: scalars on the device."""

    boxes: Float[Tensor, ""]
    matched: Float[Tensor, ""]
    class_indices: Float[Tensor, ""]
    images: Float[Tensor, ""]


@runtime_checkable
class ClassificationLoss(Protocol):
    """What matching, criterion and postprocess ask of a way to score classes.

    What scores more than `default_threshold` is shown to a user, and what scores more than
    `panoptic_threshold` becomes a
    segment of a panoptic answer, unless the user says otherwise. Where `overlap_threshold` is above
    0, pixels go to the highest score times mask; a thing that keeps less of its mask is dropped.
    """

    @property
    def default_threshold(self) -> float:
        """The score above which an answer is shown."""

    @property
    def panoptic_threshold(self) -> float:
        """The score above which an answer is believed enough to hide others."""

    @property
    def overlap_threshold(self) -> float:
        """The least share of its own mask that a segment of a thing keeps; 0: any."""

    def num_logits(self, num_classes: int) -> int:
        """Return how many logits a class head needs for `num_classes` class slots."""

    def cost(
        self, logits: Float[Tensor, "L B Q C"], class_indices: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B Q T"]:
        """Return the class part of the matching cost of every query for every target slot."""

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, counts: LossCounts
    ) -> Float[Tensor, " L"]:
        """Return the class loss of each layer, normalized by the counts of the whole window."""

    def predicts_object(self, logits: Float[Tensor, "L B Q C"]) -> Bool[Tensor, "L B Q"]:
        """Say which queries claim an object, by their likeliest answer alone."""

    def decode(self, logits: Float[Tensor, "B Q C"]) -> Scores:
        """Return the answers of one decoder layer."""


@dataclass(frozen=True)
class Softmax:
    """One of C classes or "no object", the last logit (arXiv 2005.12872, section 3.1)."""

    no_object_weight: float = 0.1
    default_threshold: float = 0.7  # both as published
    panoptic_threshold: float = 0.85
    overlap_threshold: float = 0.0

    def num_logits(self, num_classes: int) -> int:
        """Return one logit more than there are classes, for "no object"."""
        return num_classes + 1

    def cost(
        self, logits: Float[Tensor, "L B Q C"], class_indices: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B Q T"]:
        """Return minus the probability of each target's class."""
        layers, _, queries, _ = logits.shape
        index = class_indices[None, :, None, :].expand(layers, -1, queries, -1)
        return -logits.softmax(-1).gather(-1, index)

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, counts: LossCounts
    ) -> Float[Tensor, " L"]:
        """Return cross-entropy over all slots, "no object" weighing `no_object_weight`.

        It is the weighted mean over the query slots, of which `counts.matched` owe an object, so
        that the shares of a window add up to its loss.
        """
        no_object = logits.shape[-1] - 1
        owed = torch.full(logits.shape[:-1], no_object, device=logits.device)
        owed[matches.layer, matches.image, matches.query] = matches.class_index
        weight = torch.where(owed == no_object, self.no_object_weight, 1.0)
        surprise = F.cross_entropy(logits.flatten(0, 2), owed.flatten(), reduction="none")
        total = counts.matched + self.no_object_weight * (counts.class_indices - counts.matched)
        return (surprise.view_as(weight) * weight).sum((1, 2)) / total

    def predicts_object(self, logits: Float[Tensor, "L B Q C"]) -> Bool[Tensor, "L B Q"]:
        """Say which queries find some class more probable than "no object"."""
        return logits.amax(-1) > logits[..., -1]

    def decode(self, logits: Float[Tensor, "B Q C"]) -> Scores:
        """Return for every query its best real class, "no object" left out of the choice."""
        probability = logits.softmax(-1)
        score, class_index = probability[..., :-1].max(-1)
        query = torch.arange(logits.shape[1], device=logits.device).expand_as(class_index)
        return Scores(score, class_index, query, no_object_prob=probability[..., -1])


@dataclass(frozen=True)
class Focal:
    """Each class by itself, a sigmoid; easy cases weigh little (arXiv 1708.02002, equation 5)."""

    alpha: float = 0.25
    gamma: float = 2.0
    default_threshold: float = 0.5
    panoptic_threshold: float = 0.4  # a sigmoid hardly ever comes near 1 where others are near 0
    overlap_threshold: float = 0.5  # where each class is for itself, answers may double each other

    def num_logits(self, num_classes: int) -> int:
        """Return one logit per class."""
        return num_classes

    def cost(
        self, logits: Float[Tensor, "L B Q C"], class_indices: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B Q T"]:
        """Return what the loss would be with the class, less what it is without."""
        layers, _, queries, _ = logits.shape
        index = class_indices[None, :, None, :].expand(layers, -1, queries, -1)
        asked = logits.gather(-1, index)
        p = asked.sigmoid()
        present = -self.alpha * (1 - p) ** self.gamma * F.logsigmoid(asked)
        absent = -(1 - self.alpha) * p**self.gamma * F.logsigmoid(-asked)
        return present - absent

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, counts: LossCounts
    ) -> Float[Tensor, " L"]:
        """Return the focal loss of every logit, summed, per target box of the window."""
        owed = torch.zeros_like(logits)
        owed[matches.layer, matches.image, matches.query, matches.class_index] = 1
        p = logits.sigmoid()
        wrong = owed + p - 2 * owed * p  # 1 - p where the class is owed, p elsewhere
        weight = (self.alpha * owed + (1 - self.alpha) * (1 - owed)) * wrong**self.gamma
        surprise = F.binary_cross_entropy_with_logits(logits, owed, reduction="none")
        return (surprise * weight).sum((1, 2, 3)) / counts.boxes.clamp(min=1)

    def predicts_object(self, logits: Float[Tensor, "L B Q C"]) -> Bool[Tensor, "L B Q"]:
        """Say which queries have a class that scores enough to be shown."""
        return logits.amax(-1).sigmoid() > self.default_threshold

    def decode(self, logits: Float[Tensor, "B Q C"]) -> Scores:
        """Return the best pairs of query and class, as many as there are queries."""
        return _best_pairs(logits)


@dataclass(frozen=True)
class Varifocal(Focal):
    """Focal, but a matched query owes the IoU of its box, so that scores rank boxes.

    Source: arXiv 2008.13367, equation 2. Matching costs are Focal's.
    """

    background: float = 0.75

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, counts: LossCounts
    ) -> Float[Tensor, " L"]:
        """Return the varifocal loss of every logit, summed, per target box of the window."""
        owed = torch.zeros_like(logits)
        owed[matches.layer, matches.image, matches.query, matches.class_index] = matches.iou
        rest = self.background * logits.detach().sigmoid() ** self.gamma
        rest[matches.layer, matches.image, matches.query, matches.class_index] = matches.iou
        surprise = F.binary_cross_entropy_with_logits(logits, owed, weight=rest, reduction="none")
        return surprise.sum((1, 2, 3)) / counts.boxes.clamp(min=1)


def _best_pairs(logits: Float[Tensor, "B Q C"]) -> Scores:
    queries, classes = logits.shape[1:]
    score, pair = logits.flatten(1).sigmoid().topk(queries, dim=1)
    query = pair.div(classes, rounding_mode="floor")
    return Scores(score, pair % classes, query, no_object_prob=torch.zeros_like(score))
