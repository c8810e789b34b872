"""Weights as trainers leave them: parts, older files, prefixes, labels that do not fit the head."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from setmatch.errors import WeightsError
from setmatch.models.detr.checkpoint import write_original
from setmatch.models.detr.transformers_checkpoint import write_transformers
from setmatch.models.load import read
from setmatch.models.registry import build
from setmatch.models.weights.layouts.key_map import State
from setmatch.structures.metadata import Categories, ModelCard
from thorough import usually

SHAPE = {"dim": 32, "heads": 4, "ffn_dim": 32, "encoder_layers": 2, "decoder_layers": 1}
CARD = ModelCard(
    "detr_r50",
    {**SHAPE, "num_queries": 5, "dropout": 0.1, "position": "sine", "norm": "post"},
    Categories((0, 1), ("red", "lime")),
)


@pytest.fixture(scope="module")
def state() -> State:
    """The tensors of a small DETR; those of its backbone, which are large, have one number each."""
    torch.manual_seed(0)
    values = build(CARD).state_dict()
    return {k: torch.rand(1) if k.startswith("backbone.") else v for k, v in values.items()}


@pytest.fixture
def hub(state: State, tmp_path: Path) -> Path:
    write_transformers(CARD, state, tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def published(state: State, tmp_path: Path) -> dict[str, Any]:
    write_original(CARD, state, tmp_path / "published.pth")
    with torch.serialization.safe_globals([__import__("argparse").Namespace]):
        return torch.load(tmp_path / "published.pth", weights_only=True)


def assert_read(source: Path, state: State, *notes: str) -> None:
    loaded = read(source)
    assert loaded.state.keys() == state.keys()
    assert all(torch.equal(loaded.state[key], value) for key, value in state.items())
    for note in notes:
        assert any(note in each for each in loaded.notes), loaded.notes


def relabel(hub: Path, labels: object) -> None:
    config = json.loads((hub / "config.json").read_text())
    (hub / "config.json").write_text(json.dumps({**config, "id2label": labels}))


def as_bin(hub: Path) -> None:
    torch.save(load_file(hub / "model.safetensors"), hub / "pytorch_model.bin")
    (hub / "model.safetensors").unlink()


def as_parts(hub: Path, suffix: str, parts: int = 3) -> None:
    tensors = load_file(hub / "model.safetensors")
    (hub / "model.safetensors").unlink()
    stem, weight_map = ("model" if suffix == "safetensors" else "pytorch_model"), {}
    for part in range(parts):
        name = f"{stem}-{part + 1:05d}-of-{parts:05d}.{suffix}"
        some = {key: tensors[key] for key in sorted(tensors)[part::parts]}
        (save_file if suffix == "safetensors" else torch.save)(some, hub / name)
        weight_map |= dict.fromkeys(some, name)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (hub / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def test_a_folder_with_safetensors_is_read(hub: Path, state: State):
    assert_read(hub, state)
    assert_read(hub / "model.safetensors", state)
    assert read(hub).notes == ()


def test_an_older_folder_has_a_bin_file(hub: Path, state: State):
    as_bin(hub)
    assert_read(hub, state)
    assert_read(hub / "pytorch_model.bin", state)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_weights_in_parts_are_read_by_their_index(hub: Path, state: State, suffix: str):
    as_parts(hub, suffix)
    assert_read(hub, state)


def test_a_trainer_folder_gives_its_newest_checkpoint(hub: Path, state: State, tmp_path: Path):
    """By number, not by name: 100 is newer than 20."""
    (tmp_path / "run").mkdir()
    for number in (20, 100):
        hub_copy = tmp_path / "run" / f"checkpoint-{number}"
        hub_copy.mkdir()
        for path in hub.iterdir():
            os.link(path, hub_copy / path.name)
    relabel_copy = tmp_path / "run" / "checkpoint-20" / "config.json"
    relabel_copy.unlink()
    relabel_copy.write_text("{}")
    assert_read(tmp_path / "run", state, "checkpoint-100, the newest of 2")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda hub: (hub / "model.safetensors").unlink(), "no weights: neither"),
        (
            lambda hub: (hub / "model.safetensors").rename(hub / "tf_model.h5"),
            "tf_model.h5 is of another framework",
        ),
        (lambda hub: (hub / "config.json").write_text("[" * 100_000), "config.json"),
        (lambda hub: relabel(hub, ["red", "lime"]), "id2label"),
        (lambda hub: relabel(hub, {"red": 0, "lime": 1}), "id2label"),
        (lambda hub: relabel(hub, {"-1": "red"}), "id2label"),
        (lambda hub: relabel(hub, {"9" * 5000: "red"}), "id2label"),
        (lambda hub: relabel(hub, {"0": {"name": "red"}}), "id2label"),
        (lambda hub: relabel(hub, {"0": "red", "00": "lime"}), "id2label"),
    ],
)
def test_a_folder_that_cannot_be_read_says_why(hub: Path, change, what: str):
    change(hub)
    with pytest.raises(WeightsError, match=what) as error:
        read(hub)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("weight_map", "what"),
    [
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ({"a": 3}, "3 is not the name of a file"),
        ({"a": "../hub/model.safetensors"}, "not the name of a file beside it"),
        ({"a": "/etc/passwd"}, "not the name of a file beside it"),
        ({"a": "a\0b"}, "not the name of a file beside it"),
        ({"a": ".."}, "not the name of a file beside it"),
        ({"a": "missing.safetensors"}, r"missing\.safetensors: cannot be read"),
        ({"not there": "part.safetensors"}, "'not there' is in none of its files"),
    ],
)
def test_an_index_that_does_not_fit_its_parts_is_refused(hub: Path, weight_map: Any, what: str):
    """Nothing outside of the folder is opened."""
    (hub / "model.safetensors").rename(hub / "part.safetensors")
    index = json.dumps({"weight_map": weight_map})
    (hub / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match=what):
        read(hub)


@pytest.mark.parametrize(
    ("labels", "names", "notes"),
    [
        ({"1": "red", "2": "lime"}, (None, "red"), ["2: 'lime'", "no name: 0", "count from 1"]),
        ({"0": "red", "5": "lime"}, ("red", None), ["5: 'lime'", "no name: 1"]),
        ({"0": "a", "1": "b", "2": "c", "3": "d"}, ("a", "b"), ["2: 'c', 3: 'd'"]),
        ({"7": "x" * 10_000}, (None, None), ["7: 'xxx", "no name: 0, 1"]),
        ({}, (None, None), ["2 of 2 classes have no name"]),
        ({"0": "red", "1": "red"}, ("red", "red"), []),
        ({"0": "N/A", "1": "lime"}, (None, "lime"), []),
    ],
)
def test_no_label_is_dropped_in_silence(hub: Path, labels, names, notes: list[str]):
    relabel(hub, labels)
    loaded = read(hub)
    assert loaded.card.categories.names == names
    assert all(note in "\n".join(loaded.notes) for note in notes)
    assert bool(loaded.notes) == bool(notes)
    assert sum(map(len, loaded.notes)) < 1000


WRAPPED = {
    "alone": lambda model: model,
    "model": lambda model: {"model": model, "optimizer": {"state": {}}, "epoch": 3},
    "state_dict": lambda model: {"state_dict": model, "epoch": 3},
    "model_state_dict": lambda model: {"model_state_dict": model, "loss": 0.5},
    "average": lambda model: {"ema": {"module": model, "updates": 7}},
    "parallel": lambda model: {"model": {f"module.{k}": v for k, v in model.items()}},
    "compiled": lambda model: {"state_dict": {f"_orig_mod.{k}": v for k, v in model.items()}},
    "lightning": lambda model: {
        "state_dict": {
            "criterion.empty_weight": torch.ones(3),
            **{f"model.{k}": v for k, v in model.items()},
        },
        "pytorch-lightning_version": "2.0",
        "hyper_parameters": {"lr": 1e-4},
    },
    "averaged": lambda model: {
        "model": {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in model.items()}}
    },
    "compiled and parallel": lambda model: {f"_orig_mod.module.{k}": v for k, v in model.items()},
    "parts compiled": lambda model: {
        re.sub(r"(backbone|layers\.\d)\.", r"\1._orig_mod.", k): v for k, v in model.items()
    },
    "sharded": lambda model: {
        f"_fsdp_wrapped_module.{k}".replace("bbox_embed.", "bbox_embed._fsdp_wrapped_module."): v
        for k, v in model.items()
    },
    "deep": lambda model: {"state_dict": {f"a.b.{k}": v for k, v in model.items()}},
}


@pytest.mark.parametrize("layout", usually(["published", "transformers"], "published"))
@pytest.mark.parametrize("wrap", WRAPPED)
def test_what_trainers_save_is_read(
    hub: Path, published: dict[str, Any], state: State, layout: str, wrap: str
):
    """In either layout; what is left out or assumed is said."""
    model = published["model"] if layout == "published" else load_file(hub / "model.safetensors")
    path = hub.parent / "trained.pth"
    torch.save(WRAPPED[wrap](model), path)
    assert_read(path, state, "assumed 8 attention heads")
    if wrap == "lightning":
        assert_read(path, state, "left out 1 others, such as 'criterion.empty_weight'")


def test_an_average_that_is_not_read_is_said(published: dict[str, Any], tmp_path: Path):
    torch.save({**published, "ema_model": published["model"]}, tmp_path / "both.pth")
    assert (
        "read the tensors under 'model', not those under 'ema_model'"
        in read(tmp_path / "both.pth").notes
    )


@pytest.mark.parametrize("other", ["model", "state_dict"])
def test_an_average_as_the_codes_from_rtdetr_on_save_it_is_read(
    published: dict[str, Any], state: State, tmp_path: Path, other: str
):
    """Their tools evaluate and export it; what is beside it may be of any step."""
    average = {"module": published["model"], "updates": 7}
    newest = {name: value + 1 for name, value in published["model"].items()}
    path = tmp_path / "both.pth"
    torch.save({other: newest, "ema": average, "last_epoch": 3}, path)
    assert_read(path, state, f"read the tensors under 'ema', not those under '{other}'")
    torch.save({other: published["model"], "ema": {"decay": 0.999, "module": {}}}, path)
    assert_read(path, state, f"read the tensors under '{other}', not those under 'ema'")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"state": {}, "param_groups": []}, "state of an optimizer"),
        ({"state_dict": {"backbone.x": torch.ones(1)}}, "backbone.x.*fit none of the layouts"),
        ({"epoch": 3}, "'epoch' is not a tensor"),
        ({"state_dict": [1, 2]}, "'state_dict' is not a tensor"),
        ([torch.ones(2)], "got list"),
        ({"class_embed.weight": torch.ones(2, 2)}, "is missing|not those of the layout"),
        ({"class_labels_classifier.weight": torch.ones(2, 2)}, "not those of the layout"),
        ({"class_embed.weight": torch.tensor(1.0), "query_embed.weight": torch.ones(3)}, "path"),
    ],
)
def test_what_is_no_detector_is_said(tmp_path: Path, content: object, what: str):
    torch.save(content, tmp_path / "path.pth")
    with pytest.raises(WeightsError, match=what):
        read(tmp_path / "path.pth")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("activation_function", "gelu"),
        ("decoder_attention_heads", 2),
        ("backbone_config", {"model_type": "timm_backbone", "backbone": "resnetblur50"}),
    ],
)
def test_a_detr_that_would_predict_something_else_is_refused(hub: Path, setting: str, value: Any):
    config = json.loads((hub / "config.json").read_text())
    (hub / "config.json").write_text(json.dumps({**config, setting: value}))
    with pytest.raises(WeightsError, match=setting.removesuffix("_config")) as caught:
        read(hub)
    assert "\n" not in str(caught.value)


def test_weights_without_their_card_say_which_file_is_missing(hub: Path, tmp_path: Path):
    os.link(hub / "model.safetensors", tmp_path / "lone.safetensors")
    with pytest.raises(WeightsError, match=r"no card beside it \(lone\.json\).*config\.json"):
        read(tmp_path / "lone.safetensors")
