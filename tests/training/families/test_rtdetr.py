"""RT-DETR and RT-DETRv2, with layers cut down, train and are used like every other model."""

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

from known_models import SMALL_RTDETR
from setmatch.models.load import load
from setmatch.structures.metadata import Categories

pytestmark = pytest.mark.thorough  # D-FINE's training, of the same parts, is tested always
BOTTLENECK = {"bottleneck": True, "points": (2, 2, 2, 2), "extra_levels": 1}
NEAREST = {"points": (2, 4, 3), "nearest": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return quick_runs.write(tmp_path_factory.mktemp("data"), train=Split(4), val=Split(2))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return run_small(
        data, tmp_path_factory.mktemp("runs") / "run", recipe_of("rtdetr_r18", SMALL_RTDETR)
    )


def test_thirty_steps_from_random_weights_lower_the_loss(trained):
    terms = {"class", "l1", "giou", "denoising/l1", "encoder/giou"}
    assert_thirty_steps_lowered_the_loss(trained, terms)


@pytest.mark.parametrize(
    ("preset", "more"), [("rtdetr_r50", BOTTLENECK), ("rtdetr_v2_r18", NEAREST)]
)
def test_a_resumed_run_ends_bit_equal(preset: str, more: dict, data, tmp_path):
    assert_resumed_is_bit_equal(data, tmp_path, recipe_of(preset, SMALL_RTDETR | more))


def test_a_run_is_evaluated_predicts_and_is_explained(trained, data, tmp_path):
    trace = trace_after_commands(trained, data, tmp_path)
    assert trace.cross_attention.places.shape == (2, 4, 20, 12, 2)  # 4 points on each of 3 levels


def test_fine_tuning_keeps_the_classes_known_by_name(trained):
    other = load(trained.folder, categories=Categories((5, 6), ("new", "green")))
    heads = zip(other.decoder.class_heads, trained.model.decoder.class_heads, strict=True)
    for ours, theirs in heads:
        assert torch.equal(ours.weight[1], theirs.weight[1])
    noise = other.denoising.embedding.weight, trained.model.denoising.embedding.weight
    assert torch.equal(noise[0][1], noise[1][1])
