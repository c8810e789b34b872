"""Deformable DETR, with layers cut down, trains and is used like every other model."""

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

from known_models import SMALL_DEFORMABLE
from setmatch.models.backbones.small_cnn import SmallCNN
from setmatch.models.deformable_detr import presets
from setmatch.models.deformable_detr.config import DeformableShape
from setmatch.models.load import load, save
from setmatch.models.registry import MODELS, build
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.training.optim.optimizer import build_optimizer

WIDTHS = (8, 8, 12, 16)
SHAPE = DeformableShape(**SMALL_DEFORMABLE)


def plain(num_classes, shape=SHAPE):
    return presets._plain(SmallCNN(WIDTHS), num_classes, shape)


def refining(num_classes, shape=SHAPE):
    return presets._refining(SmallCNN(WIDTHS), num_classes, shape)


def two_stage(num_classes, shape=SHAPE):
    return presets._two_stage(SmallCNN(WIDTHS), num_classes, shape)


@pytest.fixture(autouse=True, scope="module")
def small_backbones():
    """Register the variants with a small backbone, whose norms are trained."""
    with pytest.MonkeyPatch.context() as patch:
        for preset in (plain, refining, two_stage):
            patch.setitem(MODELS, preset.__name__, preset)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return quick_runs.write(tmp_path_factory.mktemp("data"), train=Split(4), val=Split(2))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return run_small(data, tmp_path_factory.mktemp("runs") / "run", recipe_of("two_stage", {}))


@pytest.mark.campaign
def test_thirty_steps_from_random_weights_lower_the_loss(trained):
    terms = {"class", "l1", "giou", "encoder/class", "encoder/giou"}
    assert_thirty_steps_lowered_the_loss(trained, terms)


@pytest.mark.campaign
@pytest.mark.parametrize("preset", ["plain", "refining"])
def test_other_variants_lower_the_loss(preset: str, data, tmp_path):
    run = run_small(data, tmp_path / "run", recipe_of(preset, {}))
    assert_thirty_steps_lowered_the_loss(run, {"class", "l1", "giou"})


@pytest.mark.campaign
@pytest.mark.parametrize("preset", ["plain", "refining"])
def test_a_resumed_run_ends_bit_equal(preset: str, data, tmp_path):
    assert_resumed_is_bit_equal(data, tmp_path, recipe_of(preset, {"dropout": 0.1}), epochs=2)


@pytest.mark.campaign
def test_a_run_is_evaluated_predicts_and_is_explained(trained, data, tmp_path):
    trace = trace_after_commands(trained, data, tmp_path)
    assert trace.cross_attention.places.shape == (2, 4, 20, 6, 2)  # 2 points on each of 3 levels
    assert trace.start is None  # proposals name no class
    assert not len(trace.encoder)  # each token samples a few points


@pytest.mark.campaign
def test_fine_tuning_keeps_the_classes_known_by_name(trained):
    """The encoder's head has a single class, whatever the classes are called."""
    other = load(trained.folder, categories=Categories((5, 6), ("new", "green")))
    heads = zip(other.decoder.class_heads, trained.model.decoder.class_heads, strict=True)
    for ours, theirs in heads:
        assert torch.equal(ours.weight[1], theirs.weight[1])
    same = other.queries.class_head.weight, trained.model.queries.class_head.weight
    assert torch.equal(*same)


def test_what_places_points_learns_at_a_tenth():
    name = "deformable_detr_r50_refine"
    model = build(ModelCard(name, SMALL_DEFORMABLE, Categories((0,), ("a",))))
    settings = load_recipe(name, ["train.lr=1", "train.backbone_lr=10"]).train
    optimizer = build_optimizer(model.parameter_groups(), settings, model.rate_factors())
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        model.queries.place.weight: 0.1,
        model.queries.embedding.weight: 1,
        model.encoder.level: 1,
        model.encoder.sampling_layers[0].sampling.offsets.bias: 0.1,
        model.encoder.sampling_layers[0].sampling.attention.bias: 1,
        model.decoder.layers[1].cross_attention.offsets.weight: 0.1,
        model.decoder.class_heads[1].weight: 1,
        model.backbone.body.layer2[0].conv1.weight: 10,
    }
    for parameter, lr in expected.items():
        assert rate[id(parameter)] == pytest.approx(lr)


def test_more_queries_are_added_at_random(tmp_path):
    """Learned queries are kept."""
    model = build(ModelCard("plain", {}, Categories((0,), ("a",))))
    save(model, tmp_path)
    more = load(tmp_path, num_queries=22)
    assert torch.equal(more.queries.embedding.weight[:20], model.queries.embedding.weight)
    assert more.queries.embedding.weight.shape == (22, 64)
