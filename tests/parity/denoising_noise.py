"""The same denoising noise in setmatch's models and in transformers'."""

from collections.abc import Sequence
from types import ModuleType

import pytest
import torch

from setmatch.models.detector import Detector
from setmatch.structures.batch import Target

SEED = 5


def share_noise(
    model: Detector,
    targets: Sequence[Target],
    modules: Sequence[ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Give transformers' `modules` the queries that `model` makes of the targets after SEED."""
    labels: list[torch.Tensor] = []
    hook = model.denoising.embedding.register_forward_hook(
        lambda _, given, __: labels.append(given[0])
    )
    torch.manual_seed(SEED)
    noised = model.denoising(targets)
    hook.remove()
    extra = noised.real.shape[1]
    assignment = noised.assignment

    def ours(targets, num_classes, num_queries, class_embed, **_):
        mask = torch.zeros(extra + num_queries, extra + num_queries)
        mask[extra:, :extra] = -torch.inf
        mask[:extra, :extra].masked_fill_(~noised.same_group, -torch.inf)
        rows = [assignment.query[assignment.image == image] for image in range(len(targets))]
        split = {"dn_positive_idx": rows, "dn_num_group": noised.groups}
        split["dn_num_split"] = [extra, num_queries]
        return class_embed(labels[0]), torch.logit(noised.cxcywh), mask, split

    for module in modules:
        monkeypatch.setattr(module, "get_contrastive_denoising_training_group", ours)
