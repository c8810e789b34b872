"""The bundled example weights: small, documented, usable offline."""

import hashlib
import json
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

import setmatch as sm
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import WeightsError
from setmatch.models.initialize import initialize
from setmatch.models.load import bundled
from setmatch.models.weights.card import BUNDLED
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Categories, ModelCard

MAX_BYTES = 2 * 2**20


@pytest.mark.parametrize("name", ["bloodcells_n", "scenes_n"])
def test_example_weights_are_small_and_documented(name: str):
    """At most 2 MB; the card has license, data and hash, the README how they were made."""
    assert name in bundled()
    folder = BUNDLED / name
    assert sum(each.stat().st_size for each in folder.iterdir()) < MAX_BYTES
    card = json.loads((folder / "model.json").read_text())
    assert card["license"] == "Apache-2.0"
    assert "trained by setmatch on" in card["source"]
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == card["sha256"]
    readme = (folder / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) \| (.+) \|$", readme, re.MULTILINE))
    assert {"model", "data", "recipe", "measured", "license"} <= rows.keys()
    assert re.search(r"`.*--minutes \d+`.*; commit [0-9a-f]{7}$", rows["recipe"])
    assert re.search(r"AP 0\.\d{3}, AP50 0\.\d{3}", rows["measured"])
    assert rows["license"] == card["license"]


def test_example_weights_are_package_data():
    """Files that are not listed as package data would be missing from a wheel."""
    listed = (BUNDLED.parents[2] / "pyproject.toml").read_text()
    assert '"weights/*/*"' in listed
    assert files("setmatch").joinpath("weights/scenes_n/model.safetensors").is_file()


def test_scenes_n_detects_objects_in_new_scenes(tmp_path):
    """By name and without a network."""
    write_scenes(tmp_path, 1, 24, 160, seed=99, workers=1)
    report = sm.evaluate(sm.load("scenes_n"), open_dataset(tmp_path, "val"))
    assert report.AP50 > 0.75


def test_bloodcells_n_tells_drawn_cells_apart():
    """Discs with a pale center on a grid, and a dark one among them."""
    image = Image.new("RGB", (640, 480), (224, 214, 216))
    draw = ImageDraw.Draw(image)
    reds = [(70 + 125 * column, 70 + 115 * row) for column in range(5) for row in range(4)]
    white = reds.pop(7)

    def disc(place: tuple[int, int], radius: int, color: tuple[int, int, int]) -> None:
        x, y = place
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    for red in reds:
        disc(red, 46, (205, 150, 160))
        disc(red, 18, (218, 180, 186))
    disc(white, 60, (205, 170, 190))
    disc(white, 46, (110, 60, 150))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(2)))
    result = sm.predict(sm.load("bloodcells_n"), pixels, threshold=0.5)
    names = [result.categories.name(class_index) for class_index in result.classes.tolist()]
    assert sorted(names) == ["RBC"] * 19 + ["WBC"]
    centers = result.xyxy_px.view(-1, 2, 2).mean(1)
    assert (centers[names.index("WBC")] - torch.tensor(white)).abs().max() < 15


@pytest.mark.parametrize("recipe", ["setmatch_n", "setmatch_n_panoptic"])
def test_setmatch_n_starts_from_the_bundled_weights(recipe: str):
    """All weights but classes and masks; other arguments are refused, with advice."""
    model = load_recipe(recipe).model
    card = ModelCard(model.preset, {"num_queries": 50}, Categories((1,), ("heron",)))
    assert model.init_weights in bundled()
    started, example = initialize(card, model.init_weights), sm.load(model.init_weights)
    assert started.training
    assert started.num_queries == 50
    own = example.state_dict()
    body = {k: v for k, v in started.state_dict().items() if not k.startswith("mask_head.")}
    changed = {key for key, value in body.items() if not value.equal(own[key])}
    assert changed
    assert all("class_head" in key or "denoising.embedding" in key for key in changed)
    wider = replace(card, arguments={"dim": 96})
    with pytest.raises(WeightsError, match=r"dim is 64 there, 96 here.*--weights none"):
        initialize(wider, model.init_weights)
