"""Recipes: strict where a typo would cost a day, lenient where YAML is only awkward."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.config import Recipe, dump_recipe, load_recipe, recipe_names
from setmatch.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_is_the_published_recipe():
    """Without a recipe, DETR is trained as the paper says."""
    recipe = load_recipe()
    train = recipe.train
    assert (train.lr, train.backbone_lr, train.weight_decay) == (1e-4, 1e-5, 1e-4)
    assert (train.epochs, train.drop_epoch, train.clip_norm) == (300, 200, 0.1)
    costs, losses = recipe.matching, recipe.loss
    assert (costs.class_, costs.l1, costs.giou) == (1, 5, 2)
    assert (losses.class_, losses.l1, losses.giou) == (1, 5, 2)
    assert (recipe.data.short_side_px, recipe.data.long_side_px) == (800, 1333)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_along_loads(name: str):
    """A recipe of ours is read by name, and differs from the defaults, or it would be no recipe."""
    assert load_recipe(name) != Recipe()


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path):
    """Keys that are left out keep their defaults."""
    recipe = load_recipe(write(tmp_path, "train:\n  epochs: 7\nmatching:\n  class: 2\n"))
    assert recipe.train.epochs == 7
    assert recipe.matching.class_ == 2
    assert recipe.train.lr == Recipe().train.lr
    assert recipe.loss == Recipe().loss


@pytest.mark.parametrize("text", ["", "# all is as published\n", "train:\n", "train: {}\n"])
def test_what_is_commented_out_is_default(tmp_path: Path, text: str):
    """An empty file or section is no mistake."""
    assert load_recipe(write(tmp_path, text)) == Recipe()


@pytest.mark.parametrize("number", ["1e-4", "0.0001", "1.0e-4", "'0.0001'", "1E-4"])
def test_a_number_is_a_number_however_it_is_written(tmp_path: Path, number: str):
    """YAML 1.1 takes 1e-4 for a string; a learning rate must not be lost to that."""
    assert load_recipe(write(tmp_path, f"train: {{lr: {number}}}")).train.lr == 1e-4
    assert load_recipe(overrides=[f"train.lr={number}"]).train.lr == 1e-4


def test_overrides_come_last_and_the_last_one_counts(tmp_path: Path):
    """--set is stronger than the file, and a later --set than an earlier one."""
    path = write(tmp_path, "train: {epochs: 7, seed: 1}")
    recipe = load_recipe(path, ["train.epochs=8", "train.epochs=9", "model.arguments.dim=64"])
    assert (recipe.train.epochs, recipe.train.seed) == (9, 1)
    assert recipe.model.arguments == {"dim": 64}


def test_overrides_leave_the_given_mapping_alone():
    """What a caller passes in is read, never written."""
    tree = {"model": {"arguments": {"dim": 128}}}
    assert load_recipe(tree, ["model.arguments.dim=64"]).model.arguments == {"dim": 64}
    assert tree == {"model": {"arguments": {"dim": 128}}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trian: {epochs: 7}", ["unknown key trian", "did you mean train?"]),
        ("train: {epoch: 7}", ["unknown key train.epoch", "did you mean epochs?"]),
        ("matching: {clas: 7}", ["unknown key matching.clas", "did you mean class?"]),
        ("train: {zzz: 7}", ["unknown key train.zzz", "known here: epochs, minutes"]),
        ("train: {epochs: 0}", ["train.epochs = 0", "greater than or equal to 1"]),
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
        ("data: {short_side_px: 63}", ["data.short_side_px = 63", "take 64 or more"]),
        ("train: 3", ["train = 3"]),
        ("train: {epochs: 3}\ntrain: {seed: 3}", ["'train' stands twice", "line 2"]),
        (
            "model: {arguments: {dim: [1, 2]}}",
            ["model.arguments.dim = [1, 2]", "expected a number"],
        ),
        ("model: {arguments: {dim: .inf}}", ["model.arguments.dim = inf"]),
        ("3", ["expected sections such as 'train:', got 3"]),
        ("- train", ["expected sections"]),
        ("train: {", ["cannot be read as YAML"]),
        ("train: {lr: 2020-13-45}", ["cannot be read as YAML", "month"]),
        ("train: !!python/object:os.system {}", ["cannot be read as YAML"]),
        ("? [a, b]\n: 3", ["cannot be read as YAML"]),
        ("[" * 3000, ["cannot be read as YAML"]),
        ("&a train: &b {epochs: *b}", ["train.epochs"]),
        ("1: {epochs: 7}", ["expected sections"]),
        ("train: {1: 7}", ["train.1"]),
        (f"train: {{lr: {'a' * 5000}}}", ["train.lr = 'aaa"]),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, said: list[str]):
    """Which file, which key, which value, and what would be right: in one line."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    message = str(error.value)
    for part in [str(path), *said]:
        assert part in message
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lr", "expected section.key=value"),
        ("lr=1e-4", "expected section.key=value"),
        ("train.=1e-4", "expected section.key=value"),
        ("=", "expected section.key=value"),
        ("train.lr.x=1", "lr has no settings below it"),
        ("train.lr={", "--set train.lr={"),
        ("train.lr=2020-13-45", "month"),
        ("train.lrr=1", "did you mean lr?"),
        ("trian.lr=1", "did you mean train?"),
        ("train.epochs=many", "train.epochs = 'many'"),
    ],
)
def test_a_mistake_in_an_override_is_named(override: str, said: str):
    """--set is as strict as a file, and its errors say that they come from it."""
    with pytest.raises(ConfigError, match="--set") as error:
        load_recipe({"train": {"lr": 1}}, [override])
    assert said in str(error.value)


def test_a_recipe_that_is_not_there_names_those_that_are(tmp_path: Path):
    """A wrong name is answered with the names that would do."""
    for source in ("detrr", str(tmp_path / "none.yaml"), "x" * 5000, "a\0b"):
        with pytest.raises(ConfigError, match="recipe"):
            load_recipe(source)
    with pytest.raises(ConfigError, match="finetune"):
        load_recipe("detrr")


def test_what_is_no_text_file_is_named(tmp_path: Path):
    """A folder, or a file of bytes, is a ConfigError with its name."""
    binary = tmp_path / "recipe.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x00\x80")
    for path in (tmp_path, binary):
        with pytest.raises(ConfigError, match=path.name):
            load_recipe(path)


def test_a_recipe_never_changes_after_it_is_read():
    """What a run was started with is what its folder says."""
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
def test_a_recipe_survives_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, lr: float, epochs: int, cost: float, arguments: dict
):
    """The complete recipe in a run's folder trains the same run again."""
    recipe = load_recipe(
        {
            "train": {"lr": lr, "epochs": epochs},
            "matching": {"class": cost},
            "model": {"arguments": arguments},
        }
    )
    path = write(tmp_path_factory.mktemp("recipe"), dump_recipe(recipe))
    assert load_recipe(path) == recipe


KEYS = st.sampled_from(["train", "lr", "epochs", "model", "arguments", "class"]) | st.text()
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS | st.integers(), inner),
    max_leaves=12,
)


@given(tree=st.dictionaries(KEYS, TREES), override=st.text())
def test_any_mapping_is_read_or_refused(tree: dict, override: str):
    """Whatever tree comes in, nothing but ConfigError comes out."""
    for overrides in ([], [override], [f"train.lr={override}"], [f"{override}.x=1"]):
        with contextlib.suppress(ConfigError):
            load_recipe(tree, overrides)


YAML_SOUP = st.text(alphabet="trainmodel: {}[],-\n\t'\"&*!?|>#%@`1e.~<=")


@given(text=YAML_SOUP | st.text() | TREES.map(repr))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str):
    """Whatever a recipe file holds, nothing but ConfigError comes out."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with contextlib.suppress(ConfigError):
        load_recipe(path)
