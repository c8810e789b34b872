"""LW-DETR, with layers cut down, trains and is used like every other model."""

import pytest
import quick_runs
import torch
from quick_runs import Split
from small_runs import (
    assert_thirty_steps_lowered_the_loss,
    recipe_of,
    run_small,
    trace_after_commands,
)

from known_models import SMALL_LWDETR
from setmatch.models.lwdetr.presets import PRESETS
from setmatch.models.registry import build
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.training.optim.optimizer import build_optimizer

ONE = Categories((0,), ("a",))


@pytest.mark.campaign
def test_a_model_trains_and_is_evaluated_predicts_and_is_explained(tmp_path):
    data = quick_runs.write(tmp_path / "data", train=Split(4), val=Split(2))
    trained = run_small(data, tmp_path / "run", recipe_of("lwdetr_l", SMALL_LWDETR))
    assert_thirty_steps_lowered_the_loss(trained, {"class", "l1", "encoder/giou"})
    trace = trace_after_commands(trained, data, tmp_path)
    assert trace.cross_attention.places.shape == (2, 8, 20, 8, 2)  # 4 points on each of 2 levels
    assert not len(trace.encoder)  # windows are not shown


@pytest.mark.parametrize(
    ("name", "block", "decoder"),
    [("t", 0.8, 0.7), ("s", 0.8, 0.7), ("m", 0.7, 0.7), ("l", 0.7, 0.5), ("x", 0.75, 0.5)],
)
def test_each_block_of_the_backbone_learns_more_slowly_than_the_next(
    name: str, block: float, decoder: float
):
    """As published: 1.5e-4, times the decoder's factor twice, times the block's for each block."""
    model = build(ModelCard(f"lwdetr_{name}", SMALL_LWDETR, ONE))
    settings = load_recipe(f"lwdetr_{name}").train
    optimizer = build_optimizer(model.parameter_groups(), settings, model.rate_factors())
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    last, backbone = len(model.backbone.blocks) - 1, 1.5e-4 * decoder**2
    expected = {
        model.backbone.position: backbone * block ** (last + 2),
        model.backbone.embed.bias: backbone * block ** (last + 2),
        model.backbone.blocks[0].norm_ffn.weight: backbone * block ** (last + 1),
        model.backbone.blocks[last].norm_ffn.weight: backbone * block,
        model.encoder.levels[0].norm.weight: 1e-4,
        model.decoder.norm.weight: 1e-4 * decoder,
        model.decoder.class_head.weight: 1e-4,
    }
    for parameter, lr in expected.items():
        assert rate[id(parameter)] == pytest.approx(lr)


@pytest.mark.parametrize("name", PRESETS)
def test_recipes_start_from_published_weights_and_go_up_to_their_size(name: str):
    """In whole windows of 64 pixels."""
    recipe = load_recipe(name)
    assert recipe.model.init_weights == name
    assert max(recipe.data.auto_sides_px) == 640
    assert {side % 64 for side in recipe.data.auto_sides_px} == {0}


def test_branches_of_late_blocks_are_left_out_in_training_alone():
    """As in the published training of the large sizes: the first block keeps all.

    Each window is left out or kept alone, also of a block that attends to the whole image.
    """
    detector = build(ModelCard("lwdetr_l", {**SMALL_LWDETR, "drop_path": 0.9}, ONE))
    first, *_, last = detector.backbone.blocks
    windows = SMALL_LWDETR["windows"] ** 2
    assert len(detector.backbone.blocks) not in SMALL_LWDETR["windowed"]  # the last one
    tokens = torch.randn(64, 3 * windows, SMALL_LWDETR["backbone_dim"])

    def changed(block) -> torch.Tensor:
        return (block(tokens) != tokens).view(64, windows, -1).any(2)

    torch.manual_seed(0)
    assert changed(first).all()
    kept = changed(last).sum(1)
    assert 0 < kept.sum() < 40 * windows
    assert {0, 1, 2} <= {*kept.tolist()}
    detector.eval()
    assert changed(last).all()


@pytest.mark.parametrize(("name", "rate"), [("t", None), ("m", None), ("l", 0.1), ("x", 0.1)])
def test_large_sizes_are_trained_with_stochastic_depth(name: str, rate: float | None):
    for recipe in (f"lwdetr_{name}", f"published/lwdetr_{name}"):
        assert load_recipe(recipe).model.arguments.get("drop_path") == rate


def test_norms_biases_scales_and_positions_of_the_backbone_do_not_decay():
    """As published; the decoder's do."""
    detector = build(ModelCard("lwdetr_m", SMALL_LWDETR, ONE))
    backbone, undecayed = detector.backbone, detector.undecayed()
    block = backbone.blocks[0]
    for kept in (
        backbone.position,
        backbone.embed.bias,
        block.scale_ffn,
        block.norm_ffn.weight,
        block.ffn[0].bias,
    ):
        assert id(kept) in undecayed
    for decayed in (
        backbone.embed.weight,
        block.ffn[0].weight,
        detector.decoder.norm.weight,
        detector.encoder.levels[0].norm.bias,
    ):
        assert id(decayed) not in undecayed
