"""Fine-tuning published weights by name: what is not said follows from the data."""

import dataclasses
import re

import pytest
import quick_runs
import torch
import yaml
from quick_runs import Split

from known_models import SMALL_DFINE
from setmatch.cli import main
from setmatch.data.audit.recommend.num_epochs import epochs_for, epochs_per_evaluation
from setmatch.files.reading import sha256_of
from setmatch.models.dfine.transformers_checkpoint import PUBLISHED
from setmatch.models.load import convert_weights, load, save
from setmatch.models.registry import build
from setmatch.recipe_text import load_recipe, recipe_names
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.training.schedule.length import resolve_length


@pytest.mark.parametrize(
    ("images", "epochs"), [(1, 300), (100, 300), (160, 300), (800, 60), (4000, 12), (118_287, 12)]
)
def test_the_length_follows_from_the_number_of_images(images, epochs):
    """3,000 steps of 16 images, in 12 to 300 epochs; about 30 evaluations."""
    assert epochs_for(images, 16) == epochs
    resolved = resolve_length(load_recipe("dfine_s"), images).train
    assert (resolved.num_epochs, resolved.epochs_per_evaluation) == (
        epochs,
        max(epochs // 30, 1),
    )
    assert epochs_per_evaluation(epochs) >= 1


FAMILIES = (
    "dfine",
    "rtdetr",
    "lwdetr",
    "deimv2",
    "rfdetr",
    "deformable_detr",
    "conditional_detr",
    "dab_detr",
)


@pytest.mark.parametrize(
    "name",
    [
        each
        for each in recipe_names()
        if each.startswith(tuple(f"{family}_" for family in FAMILIES))
    ],
)
def test_every_recipe_of_published_weights_ends_by_itself(name):
    recipe = load_recipe(name)
    assert recipe.train.epochs == recipe.train.evaluate_every == "auto"
    assert recipe.train.patience
    assert recipe.data.short_side_px == "auto"
    assert recipe.data.strong_augment_until < 1
    assert recipe.model.init_weights == name


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A small model in place of the published D-FINE-S, where the hub's library keeps it."""
    torch.manual_seed(0)
    names = tuple(f"thing {index}" for index in range(79))
    categories = Categories(tuple(range(80)), (*names, "red"))
    square = Preprocessing(640, 640, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (640, 640))
    save(build(ModelCard("dfine_s", SMALL_DFINE, categories, square)), tmp_path / "ours")
    published = PUBLISHED["dfine_s"]
    repository = f"models--{published.repository.replace('/', '--')}"
    folder = tmp_path / "hub" / repository / "snapshots" / published.revision
    convert_weights(tmp_path / "ours", folder, "transformers")
    digest = sha256_of(folder / "model.safetensors")
    monkeypatch.setitem(PUBLISHED, "dfine_s", dataclasses.replace(published, sha256=digest))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return load("dfine_s")


def test_published_weights_are_tuned_without_a_setting(stand_in, tmp_path, capsys, caplog):
    """One epoch of it; classes by name, their own pixel values, and the license stay."""
    data = quick_runs.write(tmp_path / "data", train=Split(6), val=Split(2))
    out = tmp_path / "run"
    command = ["train", str(data), "--model", "dfine_s", "--weights", "dfine_s"]
    assert main([*command, "--out", str(out), "--epochs", "1", "--freeze", "backbone"]) == 0
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    assert recipe["data"]["short_side_px"] == 384
    assert recipe["train"]["freeze"] == "backbone"
    tuned = load(out)
    assert tuned.card.license == "Apache-2.0"
    assert tuned.card.source == "trained by setmatch on data, from dfine_s"
    assert tuned.card.preprocessing.mean == (0.0, 0.0, 0.0)
    assert re.search(r"class head: kept 1 \('red'\); new 2 ", caplog.text)
    before, after = stand_in.state_dict(), tuned.state_dict()
    frozen = [key for key in before if key.startswith("backbone.") and key.endswith("weight")]
    assert all(torch.equal(before[key], after[key]) for key in frozen)
    assert frozen
