"""Model cards from anywhere: checked whole, and cheap to refuse."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import setmatch
from setmatch.errors import SetmatchError, WeightsError
from setmatch.files.reading import sha256_of
from setmatch.models.family import default_shape
from setmatch.models.load import save
from setmatch.models.registry import MODELS, build
from setmatch.models.weights.card import CARD, WEIGHTS, card_from_json, card_to_json
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 5, "decoder_layers": 1}
CARD_OF_PETS = ModelCard(
    "setmatch_n", SMALL, Categories((3, 7), ("cat", "dog")), Preprocessing(64, 96)
)
TREE: dict[str, Any] = json.loads(card_to_json(CARD_OF_PETS, "0" * 64))
BAD_NUMBERS = [-1, 10**9, 10**30, float("nan"), float("inf"), "3", None, True, [3], {"a": 3}, 0.5]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model; a test may replace its card."""
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save(build(CARD_OF_PETS), path)
    return path


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    """A copy of its own for every test."""
    shutil.copy(shared / WEIGHTS, tmp_path)
    shutil.copy(shared / CARD, tmp_path)
    return tmp_path


def changed(path: str, value: object, tree: dict[str, Any] = TREE) -> dict[str, Any]:
    """The tree of a card with one entry replaced; numbers in the path are list indices."""
    tree = copy.deepcopy(tree)
    *above, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    inner: Any = tree
    for part in above:
        inner = inner[part]
    inner[last] = value
    return tree


def read(tree: object, folder: Path) -> tuple[ModelCard, str]:
    (folder / "card.json").write_text(json.dumps(tree))
    return card_from_json(folder / "card.json")


def load(tree: dict[str, Any], folder: Path) -> None:
    """Load the weights of `folder` by another card, which has their SHA-256."""
    tree = {**tree, "sha256": sha256_of(folder / WEIGHTS)}
    (folder / CARD).write_text(json.dumps(tree))
    setmatch.load(folder)


def test_a_sound_card_is_read_unchanged(tmp_path: Path):
    assert read(TREE, tmp_path) == (CARD_OF_PETS, "0" * 64)


WRONG = [
    *(("preprocessing.short_side_px", each) for each in [0, *BAD_NUMBERS]),
    *(("preprocessing.long_side_px", each) for each in [0, *BAD_NUMBERS]),
    *(("preprocessing.mean.1", each) for each in [7, -3, *BAD_NUMBERS[1:-1]]),
    *(("preprocessing.std.2", each) for each in [0, -1, 1e-30, *BAD_NUMBERS[1:-1]]),
    *(("preprocessing.std", each) for each in [[], [1.0], [0.5] * 4, 0.5, "abc", None]),
    *(("preprocessing", each) for each in [None, [], 3, {}]),
    *(("categories", each) for each in [[], None, {}, "cat", [3], [[]], [TREE["categories"]] * 2]),
    *(("categories.0.name", each) for each in [3, True, ["cat"], {"a": 1}, 0.5]),
    *(("categories.0.id", each) for each in [10**30, "3", None, 0.5, True, [1], 7]),
    *(("categories.0.class_index", each) for each in [1, 2, -1, "0", None, 10**9, 0.5]),
    *(("categories.1.stuff", each) for each in ["yes", 1, None, []]),
    *(("arguments", each) for each in [None, [], "dim", 3]),
    *(("preset", each) for each in [None, 3, ["a"], "x" * 10_000]),
    *(("sha256", each) for each in [None, 3, "", "z" * 64, "0" * 63, "0" * 65, "0" * 10**6]),
    *(("license", each) for each in [None, 3, []]),
    *(("source", each) for each in [None, 3, []]),
    *(("format", each) for each in [None, 3, "setmatch-2", [], "x" * 10**6]),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{p}={str(v)[:12]}" for p, v in WRONG])
def test_a_wrong_entry_is_named(tmp_path: Path, path: str, value: object):
    """Types, ranges, lengths; the message is short, whatever the value."""
    with pytest.raises(WeightsError, match=r"card\.json: ") as error:
        read(changed(path, value), tmp_path)
    message = str(error.value)
    assert path.split(".")[0] in message
    assert len(message) < 600


@pytest.mark.parametrize("missing", [key for key in TREE if key != "thresholds"])
def test_a_missing_entry_is_named(tmp_path: Path, missing: str):
    tree = {key: value for key, value in TREE.items() if key != missing}
    with pytest.raises(WeightsError, match=f"{missing}: Field required"):
        read(tree, tmp_path)


@pytest.mark.parametrize("tree", [None, [], 3, "card", [TREE], {}])
def test_what_is_no_card_is_refused(tmp_path: Path, tree: object):
    with pytest.raises(WeightsError, match="damaged model card"):
        read(tree, tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "1" * 6000, "\ud800", "NaN", "\0"]
)
def test_text_that_is_no_json_is_refused(tmp_path: Path, text: str):
    (tmp_path / "card.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(WeightsError, match="damaged model card"):
        card_from_json(tmp_path / "card.json")


NUMBERS = [
    (preset, name, value)
    for preset, make in MODELS.items()
    if default_shape(make) is not None
    for name, default in vars(default_shape(make)).items()
    if isinstance(default, int | float)
    for value in BAD_NUMBERS
    if not (value == 0.5 and isinstance(default, float))
    if not (value is True and isinstance(default, bool))
]


@pytest.mark.parametrize("preset", sorted({preset for preset, _, _ in NUMBERS}))
def test_every_argument_of_every_model_is_bounded(preset: str):
    """None of these numbers is ever used to build anything."""
    for _, name, value in (each for each in NUMBERS if each[0] == preset):
        with pytest.raises(SetmatchError, match=name) as error, torch.device("meta"):
            build(ModelCard(preset, {name: value}, CARD_OF_PETS.categories))
        assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "value", [[], [0, 6, 3], [-1], [1.5, 2, 3], "363", [10**9], 3, [[3], 6, 3], [True], [3] * 9]
)
def test_arguments_with_a_value_for_each_level_are_bounded(value: object):
    with pytest.raises(SetmatchError, match="points"), torch.device("meta"):
        build(ModelCard("dfine_s", {"points": value}, CARD_OF_PETS.categories))


@pytest.mark.crossed
@pytest.mark.parametrize(
    "arguments",
    [
        {"encoder_layers": 20_000},
        {"decoder_layers": 64, "encoder_layers": 64},
        {"dim": 10**9},
        {"dim": 16_384, "heads": 1, "ffn_dim": 200_000},
        {"dim": 6, "heads": 3},
        {"dim": "32"},
        {"heads": 0},
        {"no such": [1]},
        {"x" * 10**6: 1},
    ],
)
@pytest.mark.parametrize("adapted", [False, True])
def test_a_card_of_a_larger_model_than_its_weights_costs_little(
    folder: Path, arguments: dict[str, Any], adapted: bool
):
    """It is compared with the file before any memory is taken, also if classes are to change."""
    tree = {**TREE, "arguments": {**SMALL, **arguments}, "sha256": sha256_of(folder / WEIGHTS)}
    (folder / CARD).write_text(json.dumps(tree))
    largest = _largest_allocation(
        lambda: setmatch.load(folder, categories=Categories((1,), ("cat",)) if adapted else None)
    )
    assert largest < 10 * (folder / WEIGHTS).stat().st_size


def _largest_allocation(action) -> int:
    """The bytes of the largest tensor on the CPU that an action makes before it is refused."""

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
                    self.largest = max(self.largest, leaf.nbytes)
            return result

    with Watch() as watch, pytest.raises(WeightsError) as error:
        action()
    assert len(str(error.value)) < 900
    return watch.largest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_are_converted_with_a_note(folder: Path, caplog, dtype):
    _rewrite(folder, dtype)
    model = setmatch.load(folder)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert f"from {str(dtype).removeprefix('torch.')} to float32" in caplog.text
    assert model.decoder is not None


@pytest.mark.crossed
@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool, torch.complex64),
        torch.float8_e4m3fn,
    ],
)
@pytest.mark.parametrize("which", ["weight", "bias", "num_batches_tracked"])
def test_numbers_of_another_kind_are_refused(folder: Path, dtype: torch.dtype, which: str):
    """Rounded to integers, or half of a complex number, weights would detect nothing."""
    if which == "num_batches_tracked" and dtype in (torch.int64, torch.int32):
        _rewrite(folder, dtype, which)
        setmatch.load(folder)
        return
    _rewrite(folder, dtype, which)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(WeightsError, match=f"{which} holds {name} numbers"):
        setmatch.load(folder)


def _rewrite(folder: Path, dtype: torch.dtype, which: str = "") -> None:
    """Save the model of the card with tensors of another format: all, or one whose name ends so."""
    state = build(CARD_OF_PETS).state_dict()
    chosen = [k for k, v in state.items() if v.is_floating_point() and not which]
    chosen = chosen or [next(key for key in state if key.endswith(which))]
    state |= {key: state[key].to(dtype) for key in chosen}
    save_file({key: value.contiguous() for key, value in state.items()}, folder / WEIGHTS)
    tree = {**TREE, "sha256": sha256_of(folder / WEIGHTS)}
    (folder / CARD).write_text(json.dumps(tree))


@pytest.mark.parametrize("shape", [(1,), (1000,), (), (1, 1)])
def test_a_scale_that_does_not_fit_its_rows_is_refused(folder: Path, shape: tuple[int, ...]):
    """Broadcasting would turn a small file into any amount of memory."""
    state = build(CARD_OF_PETS).state_dict()
    key = next(key for key, value in state.items() if value.ndim == 4)
    state |= {key: state[key].to(torch.int8), f"{key}.scale": torch.ones(shape)}
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
    with pytest.raises(WeightsError, match=r"\.scale does not fit the rows"):
        load(TREE, folder)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 300),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([10**30, -(10**18), "", "sine", "x" * 5000]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
paths = st.sampled_from(
    [
        *(key for key in TREE if key not in ("format", "sha256")),
        *(f"arguments.{key}" for key in [*SMALL, "points", "encoder_layers", "unknown"]),
        *(f"preprocessing.{key}" for key in TREE["preprocessing"]),
        *(f"categories.1.{key}" for key in ("class_index", "id", "name", "stuff", "other")),
        "categories.0",
        "preprocessing.mean.0",
        "preprocessing.std.1",
    ]
)


@pytest.mark.promise(20)
@given(st.lists(st.tuples(paths, values), min_size=1, max_size=2))
def test_any_card_loads_or_is_refused_in_a_sentence(
    shared: Path, changes: list[tuple[str, object]]
):
    """Nested, huge, empty, of another type: nothing but a WeightsError, and a short one."""
    tree = TREE
    for path, value in changes:
        try:
            tree = changed(path, value, tree)
        except (TypeError, KeyError, IndexError):
            continue  # the first change removed what the second would replace
    assert len(refusal(tree, shared)) < 1500


def refusal(tree: dict[str, Any], folder: Path) -> str:
    """The message of the error for a card; empty if it loads."""
    try:
        load(tree, folder)
    except WeightsError as error:
        return str(error)
    return ""


@pytest.mark.promise(20)
@given(st.data())
def test_any_damage_to_a_weights_file_is_refused(shared: Path, data: st.DataObject):
    """Even where the card has the SHA-256 of the damaged file."""
    content = bytearray((shared / WEIGHTS).read_bytes())
    header = int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header + 8))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), header, len(content) // 2, 3]))]
    damaged = shared / "damaged"
    damaged.mkdir(exist_ok=True)
    (damaged / WEIGHTS).write_bytes(content)
    assert len(refusal(TREE, damaged)) < 1500


def test_a_card_cannot_choose_a_backbone_that_takes_gigabytes(folder: Path):
    """Its 843 million weights are counted without memory, and are more than the file has."""
    arguments = {**SMALL, "backbone": "convnext_xxlarge"}
    tree = {**TREE, "preset": "setmatch_timm", "arguments": arguments}
    (folder / CARD).write_text(json.dumps({**tree, "sha256": sha256_of(folder / WEIGHTS)}))
    assert _largest_allocation(lambda: setmatch.load(folder)) < 1_000_000
