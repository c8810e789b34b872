"""RUN/best keeps the weights with the highest score."""

import pytest
import torch

from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.training.checkpoints.best import Run, keep_if_best


def _metrics(
    ap: float, pq: float | None = None, mask_ap: float | None = None, stuff: int = 0
) -> dict:
    metrics: dict = {"AP": ap}
    if pq is not None:
        metrics["panoptic"] = {"all": {"PQ": pq}, "stuff": {"classes": stuff}}
    if mask_ap is not None:
        metrics["masks"] = {"AP": mask_ap}
    return metrics


@pytest.mark.parametrize(
    ("evaluations", "best"),
    [
        ([_metrics(0.1), _metrics(0.3), _metrics(0.2)], 1),
        ([_metrics(0.3, pq=0.1), _metrics(0.1, pq=0.3), _metrics(0.9, pq=0.2)], 1),
        ([_metrics(0.3, 0.5, mask_ap=0.1), _metrics(0.1, 0.4, mask_ap=0.3)], 1),
        ([_metrics(0.3, 0.5, 0.1, stuff=2), _metrics(0.1, 0.4, 0.3, stuff=2)], 0),
        ([_metrics(0.3), _metrics(0.3), _metrics(0.3)], 2),
    ],
    ids=["boxes", "panoptic", "instance", "both", "equals"],
)
def test_the_best_weights_are_kept_and_the_newest_of_equals(tmp_path, evaluations, best):
    """By AP, by PQ or by mask AP; a frozen detector's AP never changes."""
    torch.manual_seed(0)
    model = build(ModelCard("tiny", {}, Categories((1,), ("cat",))))
    for step, metrics in enumerate(evaluations):
        keep_if_best(tmp_path, model, metrics, step)
    found = Run(tmp_path).best
    assert found is not None
    assert found["step"] == best
