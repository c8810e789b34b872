"""Classification losses: each keeps its matching cost, loss and decoding together."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from setmatch.losses.normalizer import LossNormalizer


@dataclass(frozen=True)
class Scores:
    """The detections of every image: score, class index, and the query they come from.

    `no_object_prob` is the query's probability of "no object"; 0 for losses without that class.
    """

    score: Float[Tensor, "B K"]
    class_index: Int[Tensor, "B K"]
    query: Int[Tensor, "B K"]
    no_object_prob: Float[Tensor, "B K"]


@dataclass(frozen=True)
class MatchedQueries:
    """Matched queries of all layers, flattened: their indices, target classes and IoU."""

    layer: Int[Tensor, " M"]
    image: Int[Tensor, " M"]
    query: Int[Tensor, " M"]
    class_index: Int[Tensor, " M"]
    iou: Float[Tensor, " M"]  # of the predicted and the target box, without gradient


@runtime_checkable
class ClassificationLoss(Protocol):
    """How class logits are matched, trained and decoded: the three must agree.

    Predictions that score above `default_threshold` are returned to a user, those above
    `panoptic_threshold` become panoptic segments; callers may choose other thresholds. If
    `overlap_threshold` is above 0, each pixel goes to the highest score times mask probability,
    and a thing that keeps a smaller fraction of its mask is dropped.
    """

    @property
    def default_threshold(self) -> float:
        """The least score of a returned detection."""

    @property
    def panoptic_threshold(self) -> float:
        """The least score of a panoptic segment."""

    @property
    def overlap_threshold(self) -> float:
        """The least fraction of its mask that a thing's segment must keep; 0 keeps all."""

    def num_logits(self, num_classes: int) -> int:
        """Return the number of logits that a class head needs for `num_classes` classes."""

    def probabilities(self, logits: Float[Tensor, "*n C"]) -> Float[Tensor, "*n C"]:
        """Return the probability of what each logit stands for."""

    def cost(
        self, logits: Float[Tensor, "L B Q C"], class_indices: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B Q T"]:
        """Return the class part of the matching cost of every query and target."""

    def loss(
        self,
        logits: Float[Tensor, "L B Q C"],
        matches: MatchedQueries,
        normalizer: LossNormalizer,
    ) -> Float[Tensor, " L"]:
        """Return the class loss of each layer, divided by counts of the whole step."""

    def predicts_object(self, logits: Float[Tensor, "L B Q C"]) -> Bool[Tensor, "L B Q"]:
        """Return which queries detect an object."""

    def decode(self, logits: Float[Tensor, "B Q C"]) -> Scores:
        """Return the scored detections of one decoder layer."""


@dataclass(frozen=True)
class Softmax:
    """One of C classes or "no object", the last logit (arXiv 2005.12872, section 3.1)."""

    no_object_weight: float = 0.1
    default_threshold: float = 0.7  # as published, like the next
    panoptic_threshold: float = 0.85
    overlap_threshold: float = 0.0

    def num_logits(self, num_classes: int) -> int:
        """Return `num_classes` + 1: the last logit is "no object"."""
        return num_classes + 1

    def probabilities(self, logits: Float[Tensor, "*n C"]) -> Float[Tensor, "*n C"]:
        """Return probabilities that add up to 1."""
        return logits.softmax(-1)

    def cost(
        self, logits: Float[Tensor, "L B Q C"], class_indices: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B Q T"]:
        """Return the negative probability of each target's class."""
        layers, _, queries, _ = logits.shape
        index = class_indices[None, :, None, :].expand(layers, -1, queries, -1)
        return -self.probabilities(logits).gather(-1, index)

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, normalizer: LossNormalizer
    ) -> Float[Tensor, " L"]:
        """Return the cross-entropy of all queries, where "no object" weighs `no_object_weight`.

        It is the weighted mean over the queries of the whole step, `normalizer.matched` of which
        have an object as their target.
        """
        no_object = logits.shape[-1] - 1
        target = torch.full(logits.shape[:-1], no_object, device=logits.device)
        target[matches.layer, matches.image, matches.query] = matches.class_index
        weight = torch.where(target == no_object, self.no_object_weight, 1.0)
        entropy = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none")
        unmatched = normalizer.queries - normalizer.matched
        total = normalizer.matched + self.no_object_weight * unmatched
        return (entropy.view_as(weight) * weight).sum((1, 2)) / total

    def predicts_object(self, logits: Float[Tensor, "L B Q C"]) -> Bool[Tensor, "L B Q"]:
        """Return which queries have a class that is more probable than "no object"."""
        return logits.amax(-1) > logits[..., -1]

    def decode(self, logits: Float[Tensor, "B Q C"]) -> Scores:
        """Return the best class of every query, "no object" excluded."""
        probability = self.probabilities(logits)
        score, class_index = probability[..., :-1].max(-1)
        query = torch.arange(logits.shape[1], device=logits.device).expand_as(class_index)
        return Scores(score, class_index, query, no_object_prob=probability[..., -1])


@dataclass(frozen=True)
class Focal:
    """A sigmoid per class; easy examples have little weight (arXiv 1708.02002, equation 5)."""

    alpha: float = 0.25
    gamma: float = 2.0
    default_threshold: float = 0.5
    panoptic_threshold: float = 0.4  # lower than softmax's: sigmoid scores rarely come near 1
    overlap_threshold: float = 0.5  # classes do not compete, so one object may be detected twice

    def num_logits(self, num_classes: int) -> int:
        """Return `num_classes`: there is no "no object" logit."""
        return num_classes

    def probabilities(self, logits: Float[Tensor, "*n C"]) -> Float[Tensor, "*n C"]:
        """Return the probability of each class, independent of the others."""
        return logits.sigmoid()

    def cost(
        self, logits: Float[Tensor, "L B Q C"], class_indices: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B Q T"]:
        """Return the focal loss with the class as target, minus that without it."""
        layers, _, queries, _ = logits.shape
        index = class_indices[None, :, None, :].expand(layers, -1, queries, -1)
        logit = logits.gather(-1, index)
        p = logit.sigmoid()
        present = -self.alpha * (1 - p) ** self.gamma * F.logsigmoid(logit)
        absent = -(1 - self.alpha) * p**self.gamma * F.logsigmoid(-logit)
        return present - absent

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, normalizer: LossNormalizer
    ) -> Float[Tensor, " L"]:
        """Return the focal loss summed over all logits, per target box of the step."""
        target = torch.zeros_like(logits)
        target[matches.layer, matches.image, matches.query, matches.class_index] = 1
        p = logits.sigmoid()
        wrong = target + p - 2 * target * p  # 1 - p for the target class, p for the others
        weight = (self.alpha * target + (1 - self.alpha) * (1 - target)) * wrong**self.gamma
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (entropy * weight).sum((1, 2, 3)) / normalizer.boxes.clamp(min=1)

    def predicts_object(self, logits: Float[Tensor, "L B Q C"]) -> Bool[Tensor, "L B Q"]:
        """Return which queries have a class that scores above `default_threshold`."""
        return logits.amax(-1).sigmoid() > self.default_threshold

    def decode(self, logits: Float[Tensor, "B Q C"]) -> Scores:
        """Return the Q highest-scoring pairs of query and class; a query may occur twice."""
        return _best_pairs(logits)


@dataclass(frozen=True)
class Varifocal(Focal):
    """Focal with the IoU of a matched box as its target, so scores rank boxes by their quality.

    Source: arXiv 2008.13367, equation 2. The matching cost is Focal's.
    """

    background: float = 0.75  # weight of logits without a target

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, normalizer: LossNormalizer
    ) -> Float[Tensor, " L"]:
        """Return the varifocal loss summed over all logits, per target box of the step."""
        target = torch.zeros_like(logits)
        target[matches.layer, matches.image, matches.query, matches.class_index] = matches.iou
        weight = self.background * logits.detach().sigmoid() ** self.gamma
        weight[matches.layer, matches.image, matches.query, matches.class_index] = matches.iou
        entropy = F.binary_cross_entropy_with_logits(
            logits, target, weight=weight, reduction="none"
        )
        return entropy.sum((1, 2, 3)) / normalizer.boxes.clamp(min=1)


@dataclass(frozen=True)
class MatchabilityAware(Focal):
    """A power of the IoU of a matched box as its target; poor matches have the full weight, too.

    Varifocal weighs a match by its IoU, so a poor one hardly counts; but with many targets in an
    image, most matches are poor at first. Source: arXiv 2412.04234, section 3.3. The matching cost
    is Focal's.
    """

    power: float = 1.5  # of the IoU, and of the scores of logits without a target

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, normalizer: LossNormalizer
    ) -> Float[Tensor, " L"]:
        """Return the loss summed over all logits, per target box of the step."""
        target = torch.zeros_like(logits)
        weight = logits.detach().sigmoid() ** self.power
        matched = matches.layer, matches.image, matches.query, matches.class_index
        target[matched] = matches.iou**self.power
        weight[matched] = 1.0
        entropy = F.binary_cross_entropy_with_logits(
            logits, target, weight=weight, reduction="none"
        )
        return entropy.sum((1, 2, 3)) / normalizer.boxes.clamp(min=1)


@dataclass(frozen=True)
class IoUAware(Focal):
    """Cross-entropy with a mix of confidence and IoU as the target of matched boxes.

    The target is confidence^alpha · IoU^(1 - alpha), and at least `least_target`. Source: arXiv
    2406.03459, section 3.2 (IoU-aware BCE), after arXiv 2304.14340. The matching cost is Focal's.
    """

    least_target: float = 0.01

    def loss(
        self, logits: Float[Tensor, "L B Q C"], matches: MatchedQueries, normalizer: LossNormalizer
    ) -> Float[Tensor, " L"]:
        """Return the loss summed over all logits, per target box of the step."""
        p = logits.sigmoid()
        matched = matches.layer, matches.image, matches.query, matches.class_index
        confidence = p.detach()[matched]
        mix = confidence**self.alpha * matches.iou ** (1 - self.alpha)
        present = torch.zeros_like(logits)
        absent = p**self.gamma
        present[matched] = mix.clamp(min=self.least_target)
        absent[matched] = 1 - present[matched]
        terms = present * F.logsigmoid(logits) + absent * F.logsigmoid(-logits)
        return -terms.sum((1, 2, 3)) / normalizer.boxes.clamp(min=1)


CLASSIFICATION_LOSSES: dict[str, type[Softmax | Focal]] = {
    "softmax": Softmax,
    "focal": Focal,
    "varifocal": Varifocal,
    "matchability": MatchabilityAware,
    "iou_aware": IoUAware,
}


def _best_pairs(logits: Float[Tensor, "B Q C"]) -> Scores:
    queries, classes = logits.shape[1:]
    score, pair = logits.flatten(1).sigmoid().topk(queries, dim=1)
    query = pair.div(classes, rounding_mode="floor")
    return Scores(score, pair % classes, query, no_object_prob=torch.zeros_like(score))
