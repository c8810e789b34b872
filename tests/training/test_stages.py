"""Two stages: boxes first, then the mask head on the frozen detector, resumed in either stage."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import (
    RECIPE,
    STAGES,
    CrashError,
    Processes,
    assert_bit_equal,
    crash_before,
    final_state,
    log_rows,
    run_stages,
    tiny_panoptic,
    write_data,
)

import setmatch
from setmatch.config import TrainSettings
from setmatch.errors import ConfigError, DataError, WeightsError
from setmatch.models.registry import BOX_PRESETS, MODELS
from setmatch.recipe_text import load_recipe
from setmatch.training.checkpoints.checkpoint import latest_valid
from setmatch.training.optim.freeze import train_mode
from setmatch.training.schedule.length import with_length
from setmatch.training.train import train
from thorough import usually


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Eight images of bright squares on a dark background, as COCO panoptic."""
    folder = tmp_path_factory.mktemp("scenes")
    random = np.random.default_rng(0)
    tree = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": 3, "name": "square", "isthing": 1},
            {"id": 9, "name": "ground", "isthing": 0},
        ],
    }
    (folder / "train2017").mkdir()
    (folder / "annotations/panoptic_train2017").mkdir(parents=True)
    for image in range(8):
        pixels = random.integers(0, 40, (64, 64, 3), dtype=np.uint8)
        segments = np.full((64, 64, 3), (2, 0, 0), dtype=np.uint8)
        x, y = random.integers(0, 40, 2).tolist()
        pixels[y : y + 20, x : x + 16] += 180
        segments[y : y + 20, x : x + 16] = (1, 0, 0)
        name = f"{image}.png"
        Image.fromarray(pixels).save(folder / "train2017" / name)
        Image.fromarray(segments).save(folder / "annotations/panoptic_train2017" / name)
        tree["images"].append({"id": image, "file_name": name, "width": 64, "height": 64})
        infos = [(1, 3, [x, y, 16, 20]), (2, 9, [0, 0, 64, 64])]
        tree["annotations"].append(
            {
                "image_id": image,
                "file_name": name,
                "segments_info": [
                    {"id": i, "category_id": c, "bbox": b, "area": 320, "iscrowd": 0}
                    for i, c, b in infos
                ],
            }
        )
    path = folder / "annotations/panoptic_train2017.json"
    path.write_text(json.dumps(tree))
    return path


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    return run_stages(scenes, tmp_path_factory.mktemp("whole") / "run").folder


def _weights(folder):
    return setmatch.load(folder).state_dict()


def test_one_command_trains_boxes_then_masks_on_the_frozen_detector(whole):
    """The mask stage changes no tensor of the detector."""
    boxes, both = _weights(whole / "boxes"), _weights(whole)
    assert setmatch.load(whole / "boxes").card.preset == "tiny"
    assert not any(name.startswith("mask_head.") for name in boxes)
    for name, value in boxes.items():
        assert torch.equal(value, both[name]), name
    rows = [row for row in log_rows(whole) if row["kind"] == "train"]
    assert rows[-1]["mask"] + rows[-1]["dice"] < rows[0]["mask"] + rows[0]["dice"]
    assert "mask" not in log_rows(whole / "boxes")[0]


@pytest.mark.parametrize("step", usually([0, 1, 2, 5], 2))
def test_a_crash_in_either_stage_changes_nothing(scenes, whole, tmp_path, monkeypatch, step):
    """Steps 0 and 1 train boxes, 2 to 5 masks; `resume` alone is enough."""
    with monkeypatch.context() as patch:
        crash_before(step, patch)
        with pytest.raises(CrashError):
            run_stages(scenes, tmp_path / "run")
    started = (tmp_path / "run/boxes/checkpoints").is_dir()
    assert started == (step > 0)
    run_stages(scenes, tmp_path / "run", recipe=None if started else STAGES, resume=True)
    assert_bit_equal(tmp_path / "run/boxes", whole / "boxes")
    assert_bit_equal(tmp_path / "run", whole)
    assert (tmp_path / "run/recipe.yaml").read_text() == (whole / "recipe.yaml").read_text()


def test_joint_training_has_one_stage(scenes, tmp_path):
    """Detector and mask head train together, for the length of the box stage."""
    run = run_stages(scenes, tmp_path / "run", joint=True).folder
    assert not (run / "boxes").exists()
    assert latest_valid(run).step == 2
    rows = [row for row in log_rows(run) if row["kind"] == "train"]
    assert {"l1", "mask", "dice"} <= rows[0].keys()
    recipe = load_recipe(run / "recipe.yaml")
    assert recipe.box_stage is None
    assert recipe.train.train_only == "all"


@pytest.mark.thorough
def test_weights_that_know_every_class_skip_the_box_stage(scenes, whole, tmp_path):
    """From weights of other classes, boxes are trained first."""
    alone = run_stages(scenes, tmp_path / "alone", weights=whole / "boxes").folder
    assert not (alone / "boxes").exists()
    before, after = _weights(whole / "boxes"), _weights(alone)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    longer = run_stages(scenes, tmp_path / "longer", weights=whole / "boxes", epochs=3).folder
    assert load_recipe(longer / "recipe.yaml").train.epochs == 3  # those of the only stage
    run_stages(scenes, longer, recipe=None, weights=None, epochs=3, resume=True)  # nothing changed

    others = write_data(tmp_path / "others") / "annotations/train.json"
    short = ("train.epochs=1",)
    train(
        others,
        out=tmp_path / "first",
        recipe=RECIPE,
        overrides=short,
        weights="none",
        device="cpu",
    )
    trained = tmp_path / "first"
    both = run_stages(scenes, tmp_path / "both", weights=trained)
    assert (both.folder / "boxes").exists()
    masks_only = {key: value for key, value in STAGES.items() if key != "box_stage"}
    with pytest.raises(WeightsError, match="does not know the classes 'ground', and stays frozen"):
        run_stages(scenes, tmp_path / "refused", recipe=masks_only, weights=trained)
    with pytest.raises(ConfigError, match=r"name trained weights \(--weights\)"):
        run_stages(scenes, tmp_path / "refused", recipe=masks_only)
    assert not (tmp_path / "refused").exists()


@pytest.mark.thorough
def test_two_processes_train_the_same_mask_head_as_one(scenes, tmp_path):
    """The mask head runs in the criterion; its gradients are exchanged too."""
    # No dropout, which differs between processes, and a low rate: AdamW takes full steps even where
    # the gradient is only rounding error.
    deterministic = (
        "model.preset=tiny_panoptic",
        "model.arguments.dropout=0.0",
        "train.epochs=1",
        "train.lr=1e-5",
        "train.backbone_lr=1e-5",
    )
    run_stages(scenes, tmp_path / "one", *deterministic, recipe=RECIPE)
    codes, outputs = Processes(tmp_path / "two", scenes, *deterministic, world=2).wait()
    assert codes == [0, 0], outputs
    mine, theirs = final_state(tmp_path / "one"), final_state(tmp_path / "two")
    for name in [name for name in mine if name.startswith("trainer.model")]:
        assert (mine[name] - theirs[name]).abs().max() < 1e-6, name
    rows = [log_rows(tmp_path / run)[-1] for run in ("one", "two")]
    for name in ("loss", "mask", "dice", "grad_norm"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-4), name


def test_things_only_leaves_out_stuff_classes(scenes, tmp_path):
    run = run_stages(scenes, tmp_path / "run", "data.things_only=true", joint=True)
    assert setmatch.load(run.folder).card.categories.names == ("square",)


@pytest.mark.parametrize("joint", [True, False])
def test_data_without_masks_are_refused_before_anything_is_written(tmp_path, joint):
    """Nor does the box stage, which may take days, start."""
    boxes = write_data(tmp_path / "data") / "annotations/train.json"
    with pytest.raises(DataError, match="boxes but no masks"):
        run_stages(boxes, tmp_path / "run", joint=joint)
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_mask_head_has_no_mask_stage(scenes, whole, tmp_path):
    """The message says which models have one."""
    recipe = RECIPE | {"train": STAGES["train"]}
    with pytest.raises(ConfigError, match=r"tiny has no mask head.*_panoptic"):
        run_stages(scenes, tmp_path / "run", recipe=recipe, weights=whole / "boxes")


def test_a_length_is_divided_between_the_stages():
    """Epochs set the box stage, and the mask stage scales; of minutes, boxes get two thirds."""
    recipe = load_recipe("detr_r50_panoptic")
    longer = with_length(recipe, 600, None)
    assert (longer.box_stage.epochs, longer.train.epochs) == (600, 50)
    timed = with_length(recipe, None, 9)
    assert (timed.box_stage.minutes, timed.train.minutes) == pytest.approx((6, 3))
    alone = load_recipe("detr")
    assert with_length(alone, 7, None).train.epochs == 7
    assert with_length(alone, None, 2.5).train.minutes == 2.5


@pytest.mark.parametrize(
    ("epochs", "minutes", "message"),
    [
        (0, None, "--epochs 0: expected a number above 0"),
        (None, 0, "--minutes 0: expected a number above 0"),
        (None, -2.5, "--minutes -2.5: expected"),
        (None, float("nan"), "--minutes nan: expected"),
        (None, float("inf"), "--minutes inf: expected"),
    ],
)
def test_a_length_must_be_above_0(epochs, minutes, message):
    """Zero minutes would otherwise mean the epochs of the recipe."""
    with pytest.raises(ConfigError, match=message):
        with_length(load_recipe("setmatch_n"), epochs, minutes)


@pytest.mark.parametrize("setting", ["data.mosaic=0.5", "data.mixup=1", "data.copies=1"])
def test_images_with_masks_are_not_combined(tmp_path, tiny_presets, setting):
    """Refused before the box stage, which would take long, and before anything is written."""
    data = write_data(tmp_path / "data")
    for recipe in (STAGES, STAGES | {"box_stage": None}):
        with pytest.raises(ConfigError, match=r"data\.mosaic, data\.mixup .* no masks"):
            run_stages(data, tmp_path / "run", setting, recipe=recipe, joint=recipe is not STAGES)
        assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_frozen_parts_stay_in_evaluation_mode():
    """They have no dropout and fixed statistics; the rest is in training mode."""
    model = tiny_panoptic(3)
    model.requires_grad_(False)
    model.mask_head.requires_grad_(True)
    train_mode(model, TrainSettings())
    assert model.training
    assert model.mask_head.training
    assert not model.encoder.training
    assert not any(module.training for module in model.backbone.modules())


def test_every_panoptic_preset_has_a_box_preset_with_the_same_tensors():
    """The first stage trains it, and its tensors are the second's."""
    for name, box_preset in BOX_PRESETS.items():
        if name == "tiny_panoptic":
            continue
        with torch.device("meta"):
            whole, detector = MODELS[name](3), MODELS[box_preset](3)
        kept = {k: v.shape for k, v in whole.state_dict().items() if "mask_head." not in k}
        assert kept == {k: v.shape for k, v in detector.state_dict().items()}
