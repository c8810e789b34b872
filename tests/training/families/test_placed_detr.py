"""Conditional DETR and DAB-DETR, with layers cut down, train and are used like other models."""

import pytest
import quick_runs
import torch
from quick_runs import Split
from small_runs import (
    assert_resumed_is_bit_equal,
    assert_thirty_steps_lowered_the_loss,
    recipe_of,
    run_small,
    trace_after_commands,
)

from known_models import SMALL_PLACED
from setmatch.models.backbones.small_cnn import NanoCNN
from setmatch.models.conditional_detr import presets as conditional
from setmatch.models.conditional_detr.config import PlacedShape
from setmatch.models.dab_detr import presets as dab
from setmatch.models.load import load
from setmatch.models.registry import MODELS
from setmatch.structures.metadata import Categories

SHAPE = PlacedShape(**SMALL_PLACED)


def nano_conditional(num_classes, shape=SHAPE):
    return conditional._conditional(NanoCNN((8, 12, 16)), num_classes, shape)


def nano_dab(num_classes, shape=SHAPE):
    return dab._dab(NanoCNN((8, 12, 16)), num_classes, shape)


@pytest.fixture(autouse=True, scope="module")
def small_backbones():
    """Register the models with a small backbone, whose norms are trained."""
    with pytest.MonkeyPatch.context() as patch:
        for preset in (nano_conditional, nano_dab):
            patch.setitem(MODELS, preset.__name__, preset)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return quick_runs.write(tmp_path_factory.mktemp("data"), train=Split(4), val=Split(2))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return run_small(data, tmp_path_factory.mktemp("runs") / "run", recipe_of("nano_dab", {}))


@pytest.mark.campaign
def test_thirty_steps_from_random_weights_lower_the_loss(trained):
    assert_thirty_steps_lowered_the_loss(trained, {"class", "l1", "giou"})


@pytest.mark.campaign
def test_thirty_steps_of_conditional_detr_lower_the_loss(data, tmp_path):
    run = run_small(data, tmp_path / "run", recipe_of("nano_conditional", {}))
    assert_thirty_steps_lowered_the_loss(run, {"class", "l1", "giou"})


@pytest.mark.campaign
def test_a_resumed_run_ends_bit_equal(data, tmp_path):
    recipe = recipe_of("nano_dab", {"dropout": 0.1})
    assert_resumed_is_bit_equal(data, tmp_path, recipe, epochs=2)


@pytest.mark.campaign
def test_a_run_is_evaluated_predicts_and_is_explained(trained, data, tmp_path):
    trace = trace_after_commands(trained, data, tmp_path)
    assert trace.cross_attention.weights.shape == (2, 4, 20, 16)  # 4x4 cells
    assert trace.encoder.shape == (1, 16, 16)
    sums = trace.cross_attention.weights.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.campaign
def test_fine_tuning_keeps_the_classes_known_by_name(trained):
    other = load(trained.folder, categories=Categories((5, 6), ("new", "green")), num_queries=25)
    assert torch.equal(other.class_head.weight[1], trained.model.class_head.weight[1])
    assert torch.equal(other.queries.embedding.weight[:20], trained.model.queries.embedding.weight)
