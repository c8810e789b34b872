"""The set loss: class, box and mask terms, summed over prediction groups and decoder layers."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.config import LossWeights, MatchCosts
from setmatch.errors import ConfigError, short
from setmatch.losses.base import LossTerm, MatchedPredictions
from setmatch.losses.classification import ClassificationLoss, MatchedQueries
from setmatch.losses.matcher import start_matching, union_of
from setmatch.losses.normalizer import LossNormalizer
from setmatch.losses.terms import TERMS
from setmatch.ops.boxes import cxcywh_to_xyxy, intersection_over_union
from setmatch.structures.batch import Target, require_targets
from setmatch.structures.outputs import (
    Assignment,
    PredictionGroup,
    Predictions,
    require_fractions,
    require_groups,
)
from setmatch.structures.tensor_checks import described, require_kind


@dataclass(frozen=True)
class GroupLosses:
    """The unweighted terms of one prediction group by name: a value per layer, or a scalar."""

    group: str
    terms: dict[str, Tensor]


@dataclass(frozen=True)
class Losses:
    """The total to minimize, and the terms it is made of."""

    total: Float[Tensor, ""]
    groups: tuple[GroupLosses, ...]

    @property
    def terms(self) -> dict[str, Tensor]:
        """The detached terms of each group's last layer by name, as the log has them."""
        shown = {"loss": self.total.detach()}
        for group in self.groups:
            prefix = "" if group.group == "main" else f"{group.group}/"
            for name, value in group.terms.items():
                last = value[-1] if value.ndim else value
                shown[f"{prefix}{name}"] = last.detach()
        return shown


@dataclass(frozen=True)
class Criterion:
    """Matches every prediction group without a known assignment, and sums the loss terms.

    Raises ConfigError for parts of other types, if terms share a name, if a term has no weight in
    `weights`, or a weight has no term.
    """

    class_loss: ClassificationLoss
    costs: MatchCosts
    weights: LossWeights
    terms: tuple[LossTerm, ...] = TERMS

    def __post_init__(self) -> None:
        example = ", as in Criterion(model.class_loss, recipe.matching, recipe.loss)"
        require_kind("Criterion: class_loss", self.class_loss, ClassificationLoss, example)
        require_kind("Criterion: costs", self.costs, MatchCosts, example)
        require_kind("Criterion: weights", self.weights, LossWeights, example)
        given: Any = self.terms
        are_terms = isinstance(given, Sequence) and all(isinstance(e, LossTerm) for e in given)
        if not are_terms or not given:
            raise ConfigError(
                f"Criterion: terms = {short(given)}; give a tuple of LossTerm, such as "
                "(*setmatch.losses.TERMS, yours)"
            )
        names = ["loss", *(term.name for term in self.terms)]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise ConfigError(f"Criterion: several terms are called {', '.join(twice)}")
        used = {term.weight: self.weights.of(term.weight) for term in self.terms if term.weight}
        unused = sorted(self.weights.extra.keys() - used.keys())
        if unused:
            raise ConfigError(
                f"loss.extra.{unused[0]}: no loss term has this weight; remove it, or add a "
                "LossTerm to the criterion"
            )

    def __call__(
        self,
        groups: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer | None = None,
    ) -> Losses:
        """Return the weighted loss of all groups and layers, in float32 under any autocast.

        Every layer is matched anew and has the same weight (arXiv 2005.12872, equation 2, and
        section "auxiliary decoding losses"). `normalizer` defaults to the counts of `targets`.

        Raises ConfigError if `groups` is not what a model returns, and DataError for targets that
        do not fit it. Without a `normalizer`, as in your own training loop, it also raises
        ConfigError for boxes that are predicted in pixels; to see that, it waits for the device.
        """
        self._require_fit(groups, targets, normalizer)
        device = groups[0].predictions.logits.device
        if normalizer is None:
            require_fractions(groups)
            num_queries = groups[0].predictions.logits.shape[2] // groups[0].query_groups
            normalizer = LossNormalizer.of(targets, num_queries, device)
        with torch.autocast(device.type, enabled=False):
            matching = [self._start_matching(group, group.targets or targets) for group in groups]
            losses = self._in_turn(groups, matching, targets, normalizer)
            total = torch.stack([self._weighted(group) for group in losses]).sum()
        return Losses(total, losses)

    def _require_fit(
        self,
        groups: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer | None,
    ) -> None:
        require_groups(groups)
        logits = groups[0].predictions.logits
        num_images, num_logits = logits.shape[1::2]
        num_classes = num_logits - self.class_loss.num_logits(1) + 1
        require_targets(targets, num_images, num_classes, logits.device)
        if not isinstance(normalizer, LossNormalizer | None):
            raise ConfigError(
                f"a criterion takes a LossNormalizer of the step's targets, or None, but got "
                f"{described(normalizer)}"
            )

    def _in_turn(
        self,
        groups: Sequence[PredictionGroup],
        matching: Sequence[Callable[[], list[Assignment]]],
        targets: Sequence[Target],
        normalizer: LossNormalizer,
    ) -> tuple[GroupLosses, ...]:
        """Return the terms of each group; `matching` waits for its assignments, one per layer.

        Groups with known assignments come first: their work keeps a GPU busy while the matching
        costs of the others travel to the CPU. Groups with pooled matches, and those of edges, come
        last, because they take the matches of several groups.
        """
        pools = self.weights.pooled_matches
        last = [pools and (_is_pooled(group) or group.edges is not None) for group in groups]
        order = sorted(range(len(groups)), key=lambda at: (last[at], groups[at].assignment is None))
        main = groups[0]
        counts = normalizer.times(main.repeats * main.query_groups)
        kinds = counts.matched_and_others(main.predictions.logits.shape[2])
        losses: dict[int, GroupLosses] = {}
        for at in order:
            if not last[at]:
                losses[at] = self._terms(groups[at], matching[at](), targets, normalizer, kinds)
        waited = {at: matching[at]() for at in order if last[at]}
        pooling = {at: each for at, each in waited.items() if _is_pooled(groups[at])}
        pooled = _pooled([groups[at] for at in pooling], list(pooling.values()), targets)
        if pooled is not None and 0 in pooling:
            counts = _with_matches(counts, pooled, targets)
            kinds = counts.matched_and_others(main.predictions.logits.shape[2])
        for at, assignments in waited.items():
            matches = pooled if at in pooling else None
            losses[at] = self._terms(groups[at], assignments, targets, normalizer, kinds, matches)
        return tuple(losses[at] for at in range(len(groups)))

    def _start_matching(
        self, group: PredictionGroup, targets: Sequence[Target]
    ) -> Callable[[], list[Assignment]]:
        """Start to match a group; return a function that waits for one assignment per layer."""
        logits, cxcywh = self._trained_layers(group.predictions)
        known = group.assignment
        if known is not None:
            return lambda: [known] * logits.shape[0]
        return start_matching(
            logits, cxcywh, targets, self.class_loss, self.costs, group.query_groups
        ).assignments

    def _terms(
        self,
        group: PredictionGroup,
        assignments: Sequence[Assignment],
        targets: Sequence[Target],
        normalizer: LossNormalizer,
        first_kinds: Float[Tensor, "2"],
        pooled: Assignment | None = None,
    ) -> GroupLosses:
        targets = group.targets or targets
        counts = normalizer.times(group.repeats * group.query_groups)
        own = shared = self._matched(group, assignments, targets, counts, first_kinds)
        if pooled is not None:
            counts = _with_matches(counts, pooled, targets)
            shared = self._matched(group, [pooled] * own.layers, targets, counts, first_kinds)
        values = {term.name: term.function(shared if term.pools else own) for term in self.terms}
        return GroupLosses(group.name, {n: v for n, v in values.items() if v is not None})

    def _matched(
        self,
        group: PredictionGroup,
        assignments: Sequence[Assignment],
        targets: Sequence[Target],
        normalizer: LossNormalizer,
        first_kinds: Float[Tensor, "2"],
    ) -> MatchedPredictions:
        logits, cxcywh = self._trained_layers(group.predictions)
        target = torch.cat([assignment.target for assignment in assignments])
        layer, image, query = _indices(assignments)
        class_index = torch.cat([each.classes for each in targets])[target]
        predicted_cxcywh = cxcywh[layer, image, query]
        target_cxcywh = torch.cat([each.cxcywh for each in targets])[target]
        predicted_xyxy = cxcywh_to_xyxy(predicted_cxcywh)
        target_xyxy = cxcywh_to_xyxy(target_cxcywh)
        iou = intersection_over_union(predicted_xyxy.detach(), target_xyxy)
        return MatchedPredictions(
            group=group,
            class_loss=self.class_loss,
            logits=logits,
            cxcywh=cxcywh,
            pairs=MatchedQueries(layer, image, query, class_index, iou),
            predicted_cxcywh=predicted_cxcywh,
            predicted_xyxy=predicted_xyxy,
            target_cxcywh=target_cxcywh,
            target_xyxy=target_xyxy,
            targets=targets,
            last_assignment=assignments[-1],
            normalizer=normalizer,
            first_kinds=first_kinds,
        )

    def _weighted(self, group: GroupLosses) -> Float[Tensor, ""]:
        """Sum the weighted terms over layers, then add those of the last layer alone."""
        per_layer: Tensor | None = None
        last_layer: list[Tensor] = []
        for term in self.terms:
            if term.weight is None or term.name not in group.terms:
                continue
            value = self.weights.of(term.weight) * group.terms[term.name]
            if value.ndim == 0:
                last_layer.append(value)
            else:
                per_layer = value if per_layer is None else per_layer + value
        assert per_layer is not None, "at least one loss term has a value for every layer"
        return sum(last_layer, start=per_layer.sum())

    def _trained_layers(
        self, predictions: Predictions
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"]]:
        first = 0 if self.weights.auxiliary else -1
        return predictions.logits[first:].float(), predictions.cxcywh[first:].float()


def _is_pooled(group: PredictionGroup) -> bool:
    """Return whether a group is matched to the targets of the images."""
    return group.assignment is None and group.targets is None


def _pooled(
    groups: Sequence[PredictionGroup],
    assignments: Sequence[Sequence[Assignment]],
    targets: Sequence[Target],
) -> Assignment | None:
    """Return the union of the matches of all layers of some groups; None if there are no groups.

    Raises ConfigError for groups of different queries, whose matches cannot be joined.
    """
    if not groups:
        return None
    numbers = {group.predictions.logits.shape[2] for group in groups}
    if len(numbers) > 1:
        raise ConfigError(
            f"loss.pooled_matches: the groups {', '.join(group.name for group in groups)} have "
            "different numbers of queries; set it to false"
        )
    every = [each for layers in assignments for each in layers]
    return union_of(every, numbers.pop(), sum(map(len, targets)))


def _with_matches(
    counts: LossNormalizer, pooled: Assignment, targets: Sequence[Target]
) -> LossNormalizer:
    return counts.with_matches(len(pooled.target) / max(sum(map(len, targets)), 1))


def _indices(assignments: Sequence[Assignment]) -> tuple[Tensor, Tensor, Tensor]:
    """Return layer, image and query of every matched pair, layer after layer."""
    pairs = assignments[0].query
    layer = torch.arange(len(assignments), device=pairs.device).repeat_interleave(len(pairs))
    image = torch.cat([assignment.image for assignment in assignments])
    query = torch.cat([assignment.query for assignment in assignments])
    return layer, image, query
