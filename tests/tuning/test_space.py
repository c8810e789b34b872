"""What a text searches, what is searched by default, and what is refused."""

import math
from contextlib import suppress

import pytest
from hypothesis import given, strategies

from setmatch.data.audit.recommend.image_size import resolve_image_size
from setmatch.data.open import open_dataset
from setmatch.errors import ConfigError
from setmatch.recipe_text import load_recipe
from setmatch.tuning.default_space import default_space
from setmatch.tuning.parse import parse_search, parse_space, value_at
from setmatch.tuning.sampler import RANDOM_TRIALS, importances, propose
from setmatch.tuning.space import Choice, Range, overrides_of
from setmatch.tuning.trial import Trial

RECIPE = load_recipe("setmatch_n")
DEFAULT = {"train.lr": Range(1e-4, 1e-2, log=True), "data.augment": Choice(("small", "flip"))}


@pytest.mark.parametrize(
    ("text", "name", "searched"),
    [
        ("train.lr=1e-5:1e-3:log", "train.lr", Range(1e-5, 1e-3, log=True)),
        (" train.lr = 1e-5 : 1e-3 : log ", "train.lr", Range(1e-5, 1e-3, log=True)),
        ("train.clip_norm=1:10", "train.clip_norm", Range(1, 10)),
        ("data.mosaic=0:.5", "data.mosaic", Range(0, 0.5)),
        ("train.batch_size=8:64:log", "train.batch_size", Range(8, 64, log=True, step=1)),
        ("train.epochs=10:12", "train.epochs", Range(10, 12, step=1)),
        (
            "data.short_side_px=256:660:64",
            "data.short_side_px",
            Range(256, 640, step=64),
        ),
        ("data.augment=small,flip", "data.augment", Choice(("small", "flip"))),
        ("data.augment=small, flip ,small", "data.augment", Choice(("small", "flip"))),
        ("train.lr=1e-4,0.001", "train.lr", Choice((1e-4, 1e-3))),
        ("data.short_side_px=auto,320", "data.short_side_px", Choice(("auto", 320))),
        ("loss.auxiliary=true,false", "loss.auxiliary", Choice((True, False))),
        ("model.arguments.dim=64:128:64", "model.arguments.dim", Range(64, 128, step=64)),
        (
            "model.preset=setmatch_n,setmatch_s",
            "model.preset",
            Choice(("setmatch_n", "setmatch_s")),
        ),
        (
            "data.short_side_px+data.long_side_px=320,640",
            "data.short_side_px+data.long_side_px",
            Choice((320, 640)),
        ),
    ],
)
def test_a_text_searches_a_range_or_values(text, name, searched):
    assert parse_search(text, RECIPE) == (name, searched)


def test_lists_are_values():
    recipe = load_recipe("dfine_n")
    text = "model.arguments.points=[6,6],[3,6]"
    assert parse_search(text, recipe)[1] == Choice(([6, 6], [3, 6]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected SETTING=VALUES, such as train.lr=1e-5:1e-3:log"),
        ("train.lr", "expected SETTING=VALUES"),
        ("lr=1e-5:1e-3", "expected SETTING=VALUES"),
        ("train.lr=", "expected SETTING=VALUES"),
        ("=1:2", "expected SETTING=VALUES"),
        ("train..lr=1:2", "expected SETTING=VALUES"),
        ("train.lr+=1:2", "expected SETTING=VALUES"),
        ("train.lr=1e-3", "at least two values.*--set gives a setting one value"),
        ("train.lr=1e-3,1e-3", "at least two values"),
        ("data.augment=small,{", "at least two values"),
        ("train.lr=1:", "at least two values"),
        ("train.lr=1e-3:1e-5:log", "the first number must be below the second"),
        ("train.lr=1:1", "the first number must be below the second"),
        ("data.mosaic=0:1:log", "a logarithmic range starts above 0"),
        ("train.lr=1e-5:1e-3:lag", "lag is neither log nor a step"),
        ("train.lr=1e-5:1e-3:1e-4", "1e-4 is neither log nor a step between whole numbers"),
        ("train.epochs=1:10:20", "20 is neither log nor a step"),
        ("train.epochs=1:10:0", "0 is neither log nor a step"),
        ("train.lrr=1:2", "train.lrr=1:2: unknown key train.lrr; did you mean "),
        ("trian.lr=1:2", "unknown key trian; did you mean "),
        ("train.lr=-1:1", r"train.lr = -1"),
        ("train.lr=a,b", r"train.lr = 'a'"),
        ("train.epochs=1.5:3", "train.epochs = 1.5"),
        ("train.lr=1e-400:1e400", r"train.lr = 0"),
        ("data.augment=small,big", r"data.augment = 'big'"),
        ("data.augment=1:2", "data.augment = 1"),
        ("model.arguments.dims=1:2", "no argument dims; did you mean "),
        ("model.preset=setmatch_n,setmatch_q", "model setmatch_q: no such model"),
        ("train.lr+train.lr=1:2", "a setting is named twice"),
        ("train=1,2", "expected SETTING=VALUES"),
        ("train.lr=" + "9" * 5000 + ":1", "at least two values"),
        (
            "data.short_side_px+train.clip_norm=100:200",
            "short_side_px = 161.8: expected an integer",
        ),
    ],
)
def test_garbage_is_refused_in_one_line(text, message):
    """With the text that it is about, and what to write instead."""
    with pytest.raises(ConfigError, match=message) as error:
        parse_search(text, RECIPE)
    assert str(error.value).startswith("--search ")
    assert len(str(error.value)) < 500
    assert "--set:" not in str(error.value)


@given(strategies.text(max_size=30))
def test_any_text_is_a_search_or_an_error(values):
    """After the name of a setting, too; never another exception."""
    for text in (values, f"train.lr={values}"):
        with suppress(ConfigError):
            parse_search(text, RECIPE)


def test_own_searches_replace_the_default_ones():
    text = "train.clip_norm=0.1:1"
    assert parse_space([], [], RECIPE, DEFAULT) == DEFAULT
    assert list(parse_space([text], [], RECIPE, DEFAULT)) == ["train.clip_norm"]
    both = parse_space([text, "default", "train.lr=1:2"], [], RECIPE, DEFAULT)
    assert both == {
        "data.augment": DEFAULT["data.augment"],
        "train.clip_norm": Range(0.1, 1.0),
        "train.lr": Range(1, 2),
    }


def test_what_set_fixes_is_not_searched():
    assert list(parse_space([], ["train.lr=1"], RECIPE, DEFAULT)) == ["data.augment"]
    with pytest.raises(ConfigError, match=r"--set fixes train\.lr; leave one of them out"):
        parse_space(["train.lr=1:2"], ["train.lr=1"], RECIPE, DEFAULT)
    with pytest.raises(ConfigError, match=r"train\.lr is searched twice"):
        parse_space(["train.lr=1:2", "train.lr+train.clip_norm=1:3"], [], RECIPE, DEFAULT)
    with pytest.raises(ConfigError, match="nothing to search"):
        parse_space([], ["train.lr=1", "data.augment=flip"], RECIPE, DEFAULT)


@pytest.mark.parametrize("name", ["setmatch_n", "setmatch_s", "detr_r18_tiny", "dfine_n"])
def test_the_default_space_is_around_the_recipe(name, data):
    """All of it is allowed, the recipe's own values lie in it, and every rate has parameters."""
    recipe = load_recipe(name)
    sides = resolve_image_size(recipe.data, open_dataset(data, "train"))
    space = default_space(recipe, sides)
    resolved = recipe.model_copy(update={"data": sides})
    for setting, searched in space.items():
        assert value_at(resolved, setting) in searched
        for value in searched.extremes:
            load_recipe(
                recipe.model_dump(by_alias=True, exclude_none=True), overrides_of({setting: value})
            )
    assert {"train.lr", "train.weight_decay", "data.augment"} < space.keys()
    assert ("train.muon_lr" in space) == name.startswith("setmatch")
    assert ("train.backbone_lr" in space) == (name != "setmatch_n")


def test_square_images_stay_square():
    recipe = load_recipe("setmatch_s", ["data.short_side_px=640", "data.long_side_px=640"])
    space = default_space(recipe, recipe.data)
    assert space["data.short_side_px+data.long_side_px"] == Choice((480, 640, 800))


def trial(number, values, score):
    return Trial(number, values, "complete", (1,), (score,))


SPACE = {
    "train.lr": Range(1e-4, 1e-2, log=True),
    "train.weight_decay": Range(0.0, 1.0),
    "train.epochs": Range(2, 9, step=1),
    "data.augment": Choice(("small", "flip")),
}


def test_proposed_values_lie_in_the_space_and_are_new():
    trials = []
    for number in range(1, RANDOM_TRIALS + 6):
        values = propose(SPACE, trials, {"train.lr": 1e-3, "data.augment": "flip"})
        assert values == propose(SPACE, trials, {"train.lr": 1e-3, "data.augment": "flip"})
        assert all(values[name] in each for name, each in SPACE.items())
        assert values not in [each.values for each in trials]
        trials.append(trial(number, values, 0.5 if values["data.augment"] == "flip" else 0.1))
    assert (trials[0].values["train.lr"], trials[0].values["data.augment"]) == (1e-3, "flip")
    assert all(len(f"{each.values['train.lr']:g}") <= 10 for each in trials)
    last = [each.values["data.augment"] for each in trials[-5:]]
    assert last.count("flip") > last.count("small")


def test_what_matters_is_found():
    """Among settings of which one decides the score."""
    trials = []
    for number in range(1, 13):
        values = propose(SPACE, trials, {})
        score = 0.5 + math.log10(values["train.lr"]) / 10 + 0.001 * values["train.epochs"]
        trials.append(trial(number, values, score))
    shares = importances(SPACE, trials)
    assert max(shares, key=shares.get) == "train.lr"
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(SPACE, trials[:5]) == {}
    assert importances(SPACE, [trial(n, t.values, 0.5) for n, t in enumerate(trials)]) == {}
