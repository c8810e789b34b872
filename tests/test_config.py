"""Recipes: strict about keys and values, lenient about how YAML writes numbers."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.config import Recipe, Section
from setmatch.errors import ConfigError
from setmatch.recipe_text import dump_recipe, load_recipe, recipe_names


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_is_the_published_recipe():
    recipe = load_recipe()
    train = recipe.train
    assert (train.lr, train.backbone_lr, train.weight_decay) == (1e-4, 1e-5, 1e-4)
    assert (train.epochs, train.drop_epoch, train.clip_norm) == (300, 200, 0.1)
    costs, losses = recipe.matching, recipe.loss
    assert (costs.class_, costs.l1, costs.giou) == (1, 5, 2)
    assert (losses.class_, losses.l1, losses.giou) == (1, 5, 2)
    assert (recipe.data.short_side_px, recipe.data.long_side_px) == (800, 1333)


@pytest.mark.parametrize("name", recipe_names())
def test_every_bundled_recipe_loads_and_changes_something(name: str):
    assert load_recipe(name) != Recipe()


def test_keys_missing_in_a_file_keep_their_defaults(tmp_path: Path):
    recipe = load_recipe(write(tmp_path, "train:\n  epochs: 7\nmatching:\n  class: 2\n"))
    assert recipe.train.epochs == 7
    assert recipe.matching.class_ == 2
    assert recipe.train.lr == Recipe().train.lr
    assert recipe.loss == Recipe().loss


@pytest.mark.parametrize("text", ["", "# all as published\n", "train:\n", "train: {}\n"])
def test_an_empty_file_or_section_has_defaults(tmp_path: Path, text: str):
    assert load_recipe(write(tmp_path, text)) == Recipe()


@pytest.mark.parametrize("number", ["1e-4", "0.0001", "1.0e-4", "'0.0001'", "1E-4"])
def test_every_notation_of_a_number_is_read_as_a_number(tmp_path: Path, number: str):
    """YAML 1.1 reads 1e-4 as a string."""
    assert load_recipe(write(tmp_path, f"train: {{lr: {number}}}")).train.lr == 1e-4
    assert load_recipe(overrides=[f"train.lr={number}"]).train.lr == 1e-4


def test_overrides_win_over_the_file_and_the_last_one_wins(tmp_path: Path):
    path = write(tmp_path, "train: {epochs: 7, seed: 1}")
    recipe = load_recipe(path, ["train.epochs=8", "train.epochs=9", "model.arguments.dim=64"])
    assert (recipe.train.epochs, recipe.train.seed) == (9, 1)
    assert recipe.model.arguments == {"dim": 64}


def test_overrides_do_not_change_the_given_mapping():
    tree = {"model": {"arguments": {"dim": 128}}}
    assert load_recipe(tree, ["model.arguments.dim=64"]).model.arguments == {"dim": 64}
    assert tree == {"model": {"arguments": {"dim": 128}}}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trian: {epochs: 7}", ["unknown key trian", "did you mean train?"]),
        ("train: {epoch: 7}", ["unknown key train.epoch", "did you mean train.epochs?"]),
        ("matching: {clas: 7}", ["unknown key matching.clas", "did you mean matching.class?"]),
        ("train: {zzz: 7}", ["unknown key train.zzz", "known are epochs, minutes"]),
        ("train: {epochs: 0}", ["train.epochs = 0", "expected 1 or more"]),
        ("train: {epochs: 7.0}", ["train.epochs = 7.0"]),
        ("train: {epochs: true}", ["train.epochs = True"]),
        ("train: {epochs: null}", ["train.epochs = None"]),
        ("train: {lr: fast}", ["train.lr = 'fast'", "valid number"]),
        ("train: {lr: true}", ["train.lr = True"]),
        ("train: {lr: .nan}", ["train.lr = nan", "finite"]),
        ("train: {lr: inf}", ["train.lr = 'inf'", "finite"]),
        ("train: {lr: -1e-4}", ["train.lr = '-1e-4'", "greater than 0"]),
        ("train: {schedule: step}", ["train.schedule = 'step'", "'drop' or 'cosine'"]),
        ("train: {keep_checkpoints: 1}", ["train.keep_checkpoints = 1"]),
        ("data: {short_side_px: 63}", ["data.short_side_px = 63", "use 64 or more"]),
        ("train: 3", ["train = 3"]),
        ("train: {epochs: 3}\ntrain: {seed: 3}", ["duplicate key 'train'", "line 2"]),
        (
            "model: {arguments: {dim: [[1], 2]}}",
            ["model.arguments.dim = [[1], 2]", "expected a finite number"],
        ),
        ("model: {arguments: {dim: .inf}}", ["model.arguments.dim = inf"]),
        (f"model: {{arguments: {{dim: {'9' * 400}}}}}", ["model.arguments.dim = 999", "finite"]),
        (f"model: {{arguments: {{dim: [-{'9' * 400}]}}}}", ["model.arguments.dim = [-999"]),
        ("3", ["expected sections such as 'train:', got 3"]),
        ("- train", ["expected sections"]),
        ("train: {", ["not valid YAML"]),
        ("train: {lr: 2020-13-45}", ["not valid YAML", "month"]),
        ("train: !!python/object:os.system {}", ["not valid YAML"]),
        ("? [a, b]\n: 3", ["not valid YAML"]),
        ("[" * 3000, ["not valid YAML"]),
        ("train: &b {epochs: *b}", ["inside of what it stands for", "line 1"]),
        ("1: {epochs: 7}", ["expected sections"]),
        ("train: {1: 7}", ["train.1"]),
        (f"train: {{lr: {'a' * 5000}}}", ["train.lr = 'aaa"]),
    ],
)
def test_a_mistake_in_a_file_is_reported(tmp_path: Path, text: str, parts: list[str]):
    """One line names the file, the key, the value and the fix."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    message = str(error.value)
    for part in [str(path), *parts]:
        assert part in message
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.lr", "expected section.key=value"),
        ("lr=1e-4", "expected section.key=value"),
        ("train.=1e-4", "expected section.key=value"),
        ("=", "expected section.key=value"),
        ("train.lr.x=1", "lr has no settings below it"),
        ("train.lr={", "--set train.lr={"),
        ("train.lr=2020-13-45", "month"),
        ("train.lrr=1", "did you mean train.lr?"),
        ("trian.lr=1", "did you mean train?"),
        ("train.epochs=many", "train.epochs = 'many'"),
    ],
)
def test_a_mistake_in_an_override_is_reported(override: str, part: str):
    """Overrides are as strict as files, and their errors name --set."""
    with pytest.raises(ConfigError, match="--set") as error:
        load_recipe({"train": {"lr": 1}}, [override])
    assert part in str(error.value)


def test_an_unknown_recipe_is_named_with_a_similar_one(tmp_path: Path):
    for source in ("detrr", str(tmp_path / "none.yaml"), "x" * 5000, "a\0b"):
        with pytest.raises(ConfigError, match="recipe"):
            load_recipe(source)
    with pytest.raises(ConfigError, match="did you mean detr"):
        load_recipe("detrr")
    with pytest.raises(ConfigError, match=r"called like models .*finetune"):
        load_recipe("what_is_this")


def test_a_folder_or_binary_file_is_reported_by_name(tmp_path: Path):
    binary = tmp_path / "recipe.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x00\x80")
    for path in (tmp_path, binary):
        with pytest.raises(ConfigError, match=path.name):
            load_recipe(path)


def test_a_recipe_is_immutable():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe().train.epochs = 3


REALS = st.floats(min_value=1e-12, max_value=1e6)
WORDS = st.text().filter(lambda text: text.strip(" +-").lower() not in ("nan", "inf", "infinity"))


@given(
    lr=REALS,
    epochs=st.integers(1, 10**6),
    cost=REALS,
    arguments=st.dictionaries(st.text(min_size=1), st.booleans() | st.integers() | REALS | WORDS),
)
def test_a_dumped_recipe_loads_as_an_equal_recipe(
    tmp_path_factory: pytest.TempPathFactory, lr: float, epochs: int, cost: float, arguments: dict
):
    recipe = load_recipe(
        {
            "train": {"lr": lr, "epochs": epochs},
            "matching": {"class": cost},
            "model": {"arguments": arguments},
        }
    )
    path = write(tmp_path_factory.mktemp("recipe"), dump_recipe(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("section", [Recipe, *Section.__subclasses__()])
def test_every_setting_has_a_description(section: type[Section]):
    """The reference documentation is generated from them."""
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name}"
        assert field.description[0].isupper()
        assert field.description.endswith(".")


def test_weights_of_custom_loss_terms_are_read_and_checked():
    recipe = load_recipe({"loss": {"extra": {"aspect": 2}}}, ["loss.extra.angle=1e-1"])
    assert recipe.loss.of("aspect") == 2
    assert recipe.loss.of("angle") == 0.1
    assert recipe.loss.of("class") == 1
    with pytest.raises(ConfigError, match=r"loss\.extra\.aspect = -1"):
        load_recipe(overrides=["loss.extra.aspect=-1"])
    with pytest.raises(ConfigError, match=r"extra\.l1 is a built-in weight; set loss\.l1"):
        load_recipe(overrides=["loss.extra.l1=1"])


KEYS = st.sampled_from(["train", "lr", "epochs", "model", "arguments", "class"]) | st.text()
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS | st.integers(), inner),
    max_leaves=12,
)


@given(tree=st.dictionaries(KEYS, TREES), override=st.text())
def test_any_mapping_loads_or_raises_config_error(tree: dict, override: str):
    for overrides in ([], [override], [f"train.lr={override}"], [f"{override}.x=1"]):
        with contextlib.suppress(ConfigError):
            load_recipe(tree, overrides)


YAML_SOUP = st.text(alphabet="trainmodel: {}[],-\n\t'\"&*!?|>#%@`1e.~<=")


@given(text=YAML_SOUP | st.text() | TREES.map(repr))
def test_any_text_loads_or_raises_config_error(tmp_path_factory: pytest.TempPathFactory, text: str):
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with contextlib.suppress(ConfigError):
        load_recipe(path)
