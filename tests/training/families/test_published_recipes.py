"""The published trainings: their figures are those of the authors' configurations."""

import pytest
import torch

from known_models import SMALL_DEIMV2, SMALL_DFINE, SMALL_RTDETR
from setmatch.models.registry import MODELS, build
from setmatch.recipe_text import RECIPES, load_recipe
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.training.schedule.schedule import make_schedule
from setmatch.training.start.resolve_recipe import choose_recipe, recipe_for

ONE = Categories((0,), ("a",))
PUBLISHED = sorted(path.stem for path in (RECIPES / "published").glob("*.yaml"))
COCO = 118_287  # training images


def test_every_size_of_the_families_from_rtdetr_on_has_one():
    families = ("rtdetr_", "dfine_", "deimv2_", "lwdetr_")
    assert {name for name in MODELS if name.startswith(families)} <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_trains_its_preset_from_the_weights_of_the_backbone(name: str):
    recipe = load_recipe(f"published/{name}")
    assert recipe.model.preset == name.removeprefix("deim_")
    assert recipe.model.init_weights == "imagenet"
    assert recipe.train.epochs != "auto"
    assert recipe.matching.class_ == 2


@pytest.mark.parametrize(
    ("name", "batch", "lr", "backbone_lr", "decay", "epochs", "weak_from"),
    [
        ("dfine_n", 128, 8e-4, 4e-4, 1e-4, 160, 148),
        ("dfine_s", 32, 2e-4, 1e-4, 1e-4, 132, 120),
        ("dfine_m", 32, 2e-4, 2e-5, 1e-4, 132, 120),
        ("dfine_l", 32, 2.5e-4, 1.25e-5, 1.25e-4, 80, 72),
        ("dfine_x", 32, 2.5e-4, 2.5e-6, 1.25e-4, 80, 72),
        ("deim_dfine_s", 32, 4e-4, 2e-4, 1e-4, 132, 120),
        ("deim_dfine_x", 32, 5e-4, 5e-6, 1.25e-4, 58, 50),
        ("deimv2_atto", 128, 2e-3, 1e-3, 1e-4, 500, 400),
        ("deimv2_n", 32, 8e-4, 4e-4, 1e-4, 160, 148),
        ("rtdetr_r18", 16, 1e-4, 1e-5, 1e-4, 72, 72),
        ("rtdetr_v2_r18", 16, 1e-4, 1e-4, 1e-4, 120, 117),
        ("rtdetr_v2_r101", 16, 1e-4, 1e-6, 1e-4, 72, 71),
        ("lwdetr_x", 16, 1e-4, 3.75e-5, 1e-3, 60, 60),
    ],
)
def test_figures_are_those_of_the_authors(
    name: str,
    batch: int,
    lr: float,
    backbone_lr: float,
    decay: float,
    epochs: int,
    weak_from: int,
):
    recipe = load_recipe(f"published/{name}")
    train = recipe.train
    found = train.batch_size, train.lr, train.backbone_lr, train.weight_decay, train.epochs
    assert found == (batch, lr, backbone_lr, decay, epochs)
    until = recipe.data.strong_augment_until * epochs
    assert next(epoch for epoch in range(epochs + 1) if epoch >= until) == weak_from


@pytest.mark.parametrize("name", PUBLISHED)
def test_large_models_with_frozen_norms_keep_their_stem(name: str):
    """`freeze_at: 0` beside `freeze_norm: True` in the authors' configurations."""
    recipe = load_recipe(f"published/{name}")
    if name.startswith("lwdetr"):
        assert recipe.train.freeze == "none"
        return
    with torch.device("meta"):
        detector = build(ModelCard(recipe.model.preset, recipe.model.arguments, ONE))
    assert (recipe.train.freeze == "stem") == detector.backbone.frozen_norms


@pytest.mark.parametrize("name", PUBLISHED)
def test_those_from_dfine_on_return_to_their_best_state(name: str):
    """At the authors' `stop_epoch`, which ends augmentation, too, but for small DEIMv2."""
    recipe = load_recipe(f"published/{name}")
    start = make_schedule(COCO, recipe.train).last_stage_start
    if name.startswith(("rtdetr", "lwdetr")):
        assert start is None
        return
    last_epochs = {58: 8, 80: 8, 102: 12, 132: 12, 160: 12, 500: 32}[recipe.train.epochs]
    epoch = recipe.train.epochs - last_epochs
    assert make_schedule(COCO, recipe.train).epoch(start) == epoch
    assert make_schedule(COCO, recipe.train).epoch(start - 1) == epoch - 1
    if last_epochs != 32:
        assert recipe.train.return_to_best_at == recipe.data.strong_augment_until


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_average_warms_up_as_published(name: str):
    found = load_recipe(f"published/{name}").train
    if name.startswith("lwdetr"):
        assert (found.ema_decay, found.ema_warmup_steps) == (0.9997, 0)
    else:
        warmup = 2000 if name.startswith("rtdetr") else 1000
        assert (found.ema_decay, found.ema_warmup_steps) == (0.9999, warmup)


@pytest.mark.parametrize("name", [each for each in PUBLISHED if "deim" not in each])
def test_rates_are_constant_after_the_warm_up(name: str):
    settings = load_recipe(f"published/{name}").train
    plan = make_schedule(COCO, settings)
    assert {plan.lr_factor(step) for step in (settings.warmup_steps, plan.steps - 1)} == {1.0}


@pytest.mark.parametrize("name", PUBLISHED)
def test_deim_alone_warms_up_by_the_square_of_the_steps(name: str):
    settings = load_recipe(f"published/{name}").train
    plan, warmup = make_schedule(COCO, settings), settings.warmup_steps
    power = 2 if "deim" in name else 1
    for step in (0, warmup // 3, warmup // 2, warmup, 2 * warmup):
        expected = 1.0 if step >= warmup else ((step + 1) / warmup) ** power
        assert plan.lr_factor(step) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "flat", "falls_until", "last"),
    [
        ("deim_dfine_n", 1.0, 1.0, 1.0),
        ("deim_dfine_s", 64 / 132, 120 / 132, 0.5),
        ("deim_dfine_m", 49 / 102, 90 / 102, 0.5),
        ("deim_dfine_l", 29 / 58, 50 / 58, 0.5),
        ("deimv2_pico", 250 / 500, 468 / 500, 0.5),
    ],
)
def test_deim_keeps_the_rate_and_lets_it_fall_by_half(
    name: str, flat: float, falls_until: float, last: float
):
    plan = make_schedule(COCO, load_recipe(f"published/{name}").train)
    factors = [plan.lr_factor(int(part * plan.steps)) for part in (0.2, flat - 0.01, 0.999)]
    assert factors == pytest.approx([1, 1, last], abs=1e-3)
    middle = plan.lr_factor(int((flat + falls_until) / 2 * (plan.steps - 1)))
    assert middle == pytest.approx((1 + last) / 2, abs=5e-3)


@pytest.mark.parametrize(
    ("preset", "recipe"),
    [
        ("dfine_s", "published/dfine_s"),
        ("rtdetr_v2_r50_m", "published/rtdetr_v2_r50_m"),  # its weights are published as a file
        ("deformable_detr_r50_two_stage", "deformable_detr"),
        ("conditional_detr_r50", "conditional_detr"),
        ("setmatch_s", "setmatch_s"),  # starts from ImageNet weights as it is
        ("detr_r50", None),  # the defaults are its published recipe
    ],
)
def test_training_from_a_backbone_takes_the_published_recipe(preset: str, recipe: str | None):
    assert recipe_for(preset, "imagenet") == recipe
    assert recipe_for(preset, "none") in (preset, None)
    chosen = choose_recipe(preset, "imagenet", None, [], None)
    assert chosen.model.preset == preset
    assert chosen.train == load_recipe(recipe).train


@pytest.mark.parametrize(
    ("preset", "arguments"),
    [("dfine_s", SMALL_DFINE), ("deimv2_pico", SMALL_DEIMV2), ("rtdetr_r18", SMALL_RTDETR)],
)
def test_norms_and_the_biases_outside_of_the_backbone_do_not_decay(preset: str, arguments: dict):
    detector = build(ModelCard(preset, arguments, ONE))
    undecayed = detector.undecayed()
    decayed = {name for name, each in detector.named_parameters() if id(each) not in undecayed}
    kept = {name for name, _ in detector.named_parameters()} - decayed
    assert "decoder.layers.0.self_attention.query.weight" in decayed
    assert {"decoder.layers.0.self_attention.query.bias", "queries.class_head.bias"} <= kept
    assert "decoder.layers.0.around_self.norm.weight" in kept
    assert "decoder.layers.0.gate.norm.weight" not in decayed
    assert not any(name.endswith("norm.weight") for name in decayed)
    assert any(name.startswith("backbone") for name in kept)
    assert all(name.endswith(("weight", "scale", "shift")) for name in decayed)
