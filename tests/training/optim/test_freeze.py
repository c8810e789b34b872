"""Frozen parts: unchanged but for the statistics of batch norms, and without optimizer state."""

import pytest
import torch
from tiny_runs import (
    RECIPE,
    CrashError,
    Processes,
    assert_bit_equal,
    crash_before,
    final_state,
    run_tiny,
    tuning_main,
    write_data,
)

from known_models import SMALL_DFINE, SMALL_RTDETR
from setmatch.config import TrainSettings
from setmatch.errors import ConfigError
from setmatch.models.load import load
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.training.optim.freeze import NORMS, freeze, frozen_parts, train_mode
from setmatch.training.train import train
from small_families import small_model

NORM = ("model.preset=tiny_norm",)


@pytest.fixture
def trained(tmp_path, tiny_presets):
    data = write_data(tmp_path / "data")
    run_tiny(data, tmp_path / "first", *NORM, "train.epochs=1")
    return data, tmp_path / "first"


def _tune(data, weights, out, *overrides, **options):
    return run_tiny(data, out, *NORM, *overrides, weights=weights, **options)


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        pytest.param("backbone", ("backbone.",), marks=pytest.mark.thorough),
        ("encoder", ("backbone.", "encoder.")),
    ],
)
def test_frozen_weights_stay_and_their_norms_follow_the_images(trained, tmp_path, freeze, frozen):
    data, first = trained
    before = load(first).state_dict()
    run = _tune(data, first, tmp_path / "run", freeze=freeze)
    after = final_state(run.folder)
    for name, value in before.items():
        now = after[f"trainer.model.{name}"]
        is_statistic = "running_" in name or "num_batches" in name
        stays = name.startswith(frozen) and not is_statistic
        assert torch.equal(value, now) == stays, name
    parameters = dict(load(run.folder).named_parameters())
    learned = [name for name in parameters if not name.startswith(frozen)]
    moments = {name for name in after if name.endswith("exp_avg")}
    assert len(moments) == len(learned)


@pytest.mark.thorough
@pytest.mark.parametrize("freeze", ["backbone", "encoder"])
def test_a_run_with_frozen_parts_resumes_exactly(trained, tmp_path, freeze):
    data, first = trained
    whole = _tune(data, first, tmp_path / "whole", freeze=freeze)
    with pytest.MonkeyPatch.context() as patch:
        crash_before(4, patch)
        with pytest.raises(CrashError):
            _tune(data, first, tmp_path / "run", freeze=freeze)
    run = _tune(data, first, tmp_path / "run", freeze=freeze, resume=True)
    assert_bit_equal(run.folder, whole.folder)


@pytest.mark.parametrize(
    ("preset", "arguments"),
    [
        ("rtdetr_r50", {**SMALL_RTDETR, "bottleneck": False}),
        ("dfine_l", {**SMALL_DFINE, "frozen_norms": True}),
        ("dfine_s", SMALL_DFINE),
    ],
)
def test_a_frozen_stem_is_all_before_the_first_stage(preset: str, arguments: dict):
    """The norms of the other stages are as the model has them."""
    detector = build(ModelCard(preset, arguments, Categories((0,), ("a",))))
    before = {name for name, each in detector.named_parameters() if each.requires_grad}
    freeze(detector, TrainSettings(freeze="stem"))
    after = {name for name, each in detector.named_parameters() if each.requires_grad}
    assert before - after == {name for name in before if name.startswith("backbone.stem.")}
    assert before != after
    frozen_norms = [module for module in detector.backbone.modules() if isinstance(module, NORMS)]
    train_mode(detector, TrainSettings(freeze="stem"))
    assert {module.training for module in frozen_norms} == {not detector.backbone.frozen_norms}


@pytest.mark.parametrize(
    ("family", "follows"),
    [("D-FINE", True), ("Conditional DETR", False), ("RF-DETR", False), ("setmatch", True)],
)
def test_norms_are_said_to_follow_the_images_where_there_are_any(family: str, follows: bool):
    """Those of ResNets are constants in published DETRs, and transformers have others."""
    detector = small_model(family, Categories((0,), ("a",)), Preprocessing(64, 96))
    settings = TrainSettings(freeze="backbone")
    assert frozen_parts(detector, TrainSettings()) == ""
    freeze(detector, settings)
    train_mode(detector, settings)
    before = {name: value.clone() for name, value in detector.backbone.named_buffers()}
    detector.feature_levels(Batch.from_images([torch.rand(3, 64, 96)] * 2))
    changed = [n for n, v in detector.backbone.named_buffers() if not torch.equal(v, before[n])]
    assert bool(changed) == follows
    sentence = "backbone is frozen"
    norms = "; batch norms there take the statistics of the new images"
    assert frozen_parts(detector, settings) == sentence + (norms if follows else "")


def test_a_backbone_without_a_stem_is_refused(tmp_path, tiny_presets):
    data = write_data(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"tiny has no backbone\.stem; set none"):
        run_tiny(data, tmp_path / "run", weights=None, freeze="stem")


def test_what_is_frozen_cannot_change_on_resume(trained, tmp_path):
    data, first = trained
    _tune(data, first, tmp_path / "run", freeze="backbone")
    with pytest.raises(ConfigError, match=r"train\.freeze was 'backbone' and is 'none'"):
        _tune(data, first, tmp_path / "run", freeze="none", resume=True)
    train(data, out=tmp_path / "run", resume=True)  # by its own recipe


@pytest.mark.thorough
def test_two_processes_train_the_rest_as_one_does(tmp_path, tiny_presets):
    """With a frozen backbone whose norms follow the images of both."""
    data = write_data(tmp_path / "data")
    run_tiny(data, tmp_path / "first", *NORM, "train.epochs=1")
    settings = (*NORM, "train.freeze=backbone", "model.arguments.dropout=0.0", "train.lr=1e-4")
    one = _tune(data, tmp_path / "first", tmp_path / "one", *settings)
    two = Processes(tmp_path / "two", data, *settings, world=2, main=tuning_main)
    codes, outputs = two.wait()
    assert codes == [0, 0], outputs
    mine, theirs = final_state(one.folder), final_state(tmp_path / "two")
    for name, value in mine.items():
        if name.startswith("trainer.model"):
            assert (value - theirs[name]).abs().max() < 1e-6, name


@pytest.mark.parametrize("freeze", ["stem", "backbone", "encoder"])
def test_random_weights_are_not_frozen(tmp_path, tiny_presets, freeze):
    data = write_data(tmp_path / "data")
    with pytest.raises(ConfigError, match="it would stay random"):
        run_tiny(data, tmp_path / "run", freeze=freeze)
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_an_unknown_part_is_refused(tmp_path, tiny_presets):
    data = write_data(tmp_path / "data")
    with pytest.raises(ConfigError, match="choose stem, backbone, encoder or none"):
        run_tiny(data, tmp_path / "run", freeze="decoder")


def test_a_model_without_the_part_is_refused(tmp_path, tiny_presets):
    data = write_data(tmp_path / "data", size=96)
    recipe = RECIPE | {"model": {"preset": "tiny_baseline"}}
    options = {"recipe": recipe, "device": "cpu", "epochs": 1}
    first = train(data, out=tmp_path / "first", weights="none", **options)
    with pytest.raises(ConfigError, match="tiny_baseline has no encoder; set backbone"):
        train(data, out=tmp_path / "run", weights=first.folder, freeze="encoder", **options)
