"""Loading and saving: every layout keeps the model, and assumptions are logged."""

import argparse
import json
import logging
import pickle
from pathlib import Path

import pytest
import torch

import setmatch
from setmatch.errors import ConfigError, WeightsError
from setmatch.files.reading import sha256_of
from setmatch.models.detr.checkpoint import PUBLISHED
from setmatch.models.initialize import initialize
from setmatch.models.load import convert_weights, save
from setmatch.models.registry import MODELS, build
from setmatch.models.weights.downloads.download import PublishedCheckpoint
from setmatch.models.weights.downloads.hub import is_hub_id
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

SMALL = {
    "dim": 32,
    "heads": 4,
    "ffn_dim": 48,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 9,
}
PETS = Categories((3, 7, 20), ("cat", "dog", "Parrot"), stuff=frozenset({1}))


def _detector(preset: str = "detr_r18_tiny", **changes):
    torch.manual_seed(0)
    card = ModelCard(preset, {**SMALL, **changes}, PETS, Preprocessing(64, 96), "MIT", "a test")
    return build(card).eval()


def _logits(model) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return model(Batch.from_images([torch.randn(3, 64, 96)]))[0].predictions.logits


def _read_pth(path: Path) -> dict:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def _same(a, b) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("path", ["/nowhere", "runs/", "./run", "../run", "~/run", "a/b/c", "run"])
def test_a_path_that_does_not_exist_is_no_repository_of_the_hub(path: str):
    assert not is_hub_id(path)
    with pytest.raises(WeightsError, match="no such file or folder, and no published name"):
        setmatch.load(path)


def test_a_saved_model_loads_unchanged(tmp_path: Path):
    """Tensors bit by bit, card, evaluation mode."""
    model = _detector()
    save(model, tmp_path / "m")
    again = setmatch.load(tmp_path / "m")
    assert _same(model, again)
    assert again.card == model.card
    assert not again.training
    assert _same(model, setmatch.load(tmp_path / "m" / "model.safetensors"))


def test_saved_weights_have_the_permissions_of_any_new_file(tmp_path: Path):
    save(_detector(), tmp_path / "m")
    modes = {path.stat().st_mode for path in (tmp_path / "m").iterdir()}
    (tmp_path / "any").touch()
    assert modes == {(tmp_path / "any").stat().st_mode}


@pytest.mark.parametrize("position", [0, 9, 1000, -1])
def test_a_flipped_bit_is_detected(tmp_path: Path, position: int):
    """Neither safetensors nor torch would notice; the card's SHA-256 does."""
    save(_detector(), tmp_path)
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[position] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        setmatch.load(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "other-9"}', '{"format": 3}'])
def test_the_error_for_a_damaged_card_names_its_file(tmp_path: Path, damage: str):
    save(_detector(), tmp_path)
    (tmp_path / "model.json").write_text(damage)
    with pytest.raises(WeightsError, match=r"model\.json"):
        setmatch.load(tmp_path)


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        pytest.param("detr_r50", {}, marks=pytest.mark.thorough),
        ("detr_r50_dc5", {"position": "learned", "norm": "pre"}),
        pytest.param("detr_r101", {"norm": "pre"}, marks=pytest.mark.thorough),
        ("detr_demo", {}),
    ],
)
def test_the_original_layout_round_trips(tmp_path: Path, preset: str, changes: dict):
    """A .pth written here loads as the same model, from its args alone."""
    model = _detector(preset, **changes)
    save(model, tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path / "model.pth", "original")
    again = setmatch.load(tmp_path / "model.pth")
    assert again.card.preset == preset
    assert again.card.arguments == model.card.arguments
    assert torch.equal(_logits(again), _logits(model))


def test_a_checkpoint_without_args_loads_with_logged_assumptions(tmp_path: Path, caplog):
    """Tensor names show depth, width, queries, positions and norms, but not heads and dilation."""
    model = _detector("detr_r50", heads=8, norm="pre", position="learned")
    save(model, tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path / "with_args.pth", "original")
    torch.save(_read_pth(tmp_path / "with_args.pth")["model"], tmp_path / "bare.pth")
    with caplog.at_level(logging.WARNING, "setmatch"):
        again = setmatch.load(tmp_path / "bare.pth", categories=PETS)
    assert torch.equal(_logits(again), _logits(model))
    for note in ("8 attention heads", "not its dilated form detr_r50_dc5", "all rows kept"):
        assert note in caplog.text
    dilated = setmatch.load(tmp_path / "bare.pth", preset="detr_r50_dc5")
    assert dilated.card.preset == "detr_r50_dc5"


class _Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("make", [pickle.dump, torch.save])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    with open("evil.pth", "wb") as file:
        make({"model": {"a": _Bomb()}}, file)
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        setmatch.load("evil.pth")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"model": {}},
        [1, 2],
        {"model": {"x": 3}},
        {"model": {"x": torch.zeros(2)}},
        {"args": argparse.Namespace(a=1)},
    ],
)
def test_the_error_for_other_content_names_the_file(tmp_path: Path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth|tensor"):
        setmatch.load(tmp_path / "other.pth")


def test_the_error_for_a_truncated_file_names_it(tmp_path: Path):
    save(_detector("detr_r50"), tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path / "whole.pth", "original")
    data = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match=r"half\.pth"):
        setmatch.load(tmp_path / "half.pth")


def test_classes_with_the_same_name_keep_their_rows(tmp_path: Path, caplog):
    """rf-detr #258: in any order, with any ids, next to new classes; the log lists them."""
    model = _detector()
    save(model, tmp_path)
    wanted = Categories((1, 2, 3, 4), ("parrot", "horse", "cat", "mouse"))
    with caplog.at_level(logging.WARNING, "setmatch"):
        again = setmatch.load(tmp_path, categories=wanted)
    old, new = model.class_head, again.class_head
    assert torch.equal(new.weight[[0, 2, 4]], old.weight[[2, 0, 3]])  # parrot, cat, no object
    assert torch.equal(new.bias[[0, 2, 4]], old.bias[[2, 0, 3]])
    assert again.card.categories == wanted
    assert "kept 2 ('parrot', 'cat'); new 2 ('horse', 'mouse'); dropped 1 ('dog')" in caplog.text


def test_starting_with_entirely_other_classes_is_logged(caplog):
    with caplog.at_level(logging.WARNING, "setmatch"):
        setmatch.load("scenes_n", categories=Categories((7,), ("kangaroo",)))
    assert "class head: new for 1 ('kangaroo'); the weights know 6 (" in caplog.text


@pytest.mark.parametrize("num_queries", [4, 9, 30])
def test_the_number_of_queries_can_change(tmp_path: Path, num_queries: int):
    """Queries that are kept do not change."""
    model = _detector()
    save(model, tmp_path)
    again = setmatch.load(tmp_path, num_queries=num_queries)
    kept = min(9, num_queries)
    old, new = model.queries.embedding.weight, again.queries.embedding.weight
    assert torch.equal(new[:kept], old[:kept])
    assert _logits(again).shape[2] == num_queries
    assert again.card.arguments["num_queries"] == num_queries


def test_the_error_for_a_published_name_offline_says_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path))
    absent = (tmp_path / "absent" / "detr-r50-e632da11.pth").as_uri()
    monkeypatch.setitem(PUBLISHED, "detr_r50", PublishedCheckpoint(absent))
    with pytest.raises(WeightsError, match=r"put it at .*detr-r50-e632da11\.pth"):
        setmatch.load("detr_r50")
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_published_weights_are_downloaded_checked_and_cached(tmp_path: Path, monkeypatch):
    """The real code path, with a file made here in place of the published one."""
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "cache"))
    save(_detector("detr_r50"), tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path / "made.pth", "original")
    made = tmp_path / f"detr-r50-{sha256_of(tmp_path / 'made.pth')[:8]}.pth"
    (tmp_path / "made.pth").rename(made)
    stand_in = PublishedCheckpoint(made.as_uri())
    monkeypatch.setitem(PUBLISHED, "detr_r50", stand_in)
    first = setmatch.load("detr_r50")
    made.unlink()
    assert _same(first, setmatch.load("detr_r50"))
    cached = tmp_path / "cache" / stand_in.name
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="delete the file"):
        setmatch.load("detr_r50")


def test_the_error_for_an_unknown_source_suggests_a_name(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"no such file or folder.*did you mean detr_r50"):
        setmatch.load("detr_r5O")
    with pytest.raises(WeightsError, match=r"`setmatch models` lists the published names"):
        setmatch.load("what_is_this")
    with pytest.raises(WeightsError, match="setmatch_n: no weights are published"):
        setmatch.load("setmatch_n")
    with pytest.raises(WeightsError, match="neither a run folder"):
        setmatch.load(tmp_path)


def test_the_error_for_the_hub_offline_says_what_to_fetch():
    with pytest.raises(WeightsError, match=r"config\.json.*model\.safetensors"):
        setmatch.load("facebook/detr-resnet-50")


def test_a_missing_tensor_is_an_error(tmp_path: Path):
    """rf-detr #258: never initialized silently."""
    model = _detector("detr_r50")
    save(model, tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path / "whole.pth", "original")
    content = _read_pth(tmp_path / "whole.pth")
    del content["model"]["bbox_embed.layers.1.weight"]
    torch.save(content, tmp_path / "less.pth")
    with pytest.raises(WeightsError, match=r"box_head\.layers\.1\.weight is missing"):
        setmatch.load(tmp_path / "less.pth")


def test_converting_overwrites_nothing_and_leaves_nothing_half_written(tmp_path: Path):
    """An existing destination, an unknown layout, a model the layout does not have."""
    save(_detector(), tmp_path / "ours")
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        convert_weights(tmp_path / "ours", tmp_path / "there", "setmatch")
    with pytest.raises(ConfigError, match="choose one of"):
        convert_weights(tmp_path / "ours", tmp_path / "new", "darknet")
    for layout in ("original", "transformers"):
        with pytest.raises(WeightsError):
            convert_weights(tmp_path / "ours", tmp_path / "new", layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "there"]


def test_the_error_for_weights_of_an_older_model_says_so(tmp_path: Path, monkeypatch):
    """A preset with other widths, or without an argument that the card has."""
    save(_detector(), tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(MODELS, "detr_r18_tiny", MODELS["detr_r50"])
        with pytest.raises(WeightsError, match="has changed since they were saved: load them with"):
            setmatch.load(tmp_path)
    card = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(card.replace('"heads"', '"heds"'))
    with pytest.raises(WeightsError, match=r"no argument heds.*has changed since"):
        setmatch.load(tmp_path)


@pytest.mark.parametrize("preset", ["setmatch_n", "setmatch_n_panoptic"])
def test_setmatch_models_start_from_weights_with_other_classes_and_queries(
    tmp_path: Path, preset: str
):
    """Every class head and the denoising embedding keep the rows of known names."""
    shape = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 9}
    torch.manual_seed(0)
    old = build(ModelCard(preset, shape, PETS))
    save(old, tmp_path)
    wanted = Categories((1, 2), ("horse", "Cat"))
    new = initialize(ModelCard(preset, {**shape, "num_queries": 30}, wanted), str(tmp_path))
    assert new.num_queries == new.card.arguments["num_queries"] == 30
    (group, *_) = new.eval()(Batch.from_images([torch.randn(3, 128, 128)]))
    assert group.predictions.logits.shape[-2:] == (30, 2)
    before, after = old.state_dict(), new.state_dict()
    class_rows = [key for key in before if "class_head" in key or key.startswith("denoising")]
    assert len(class_rows) == 2 * (1 + old.card.arguments["decoder_layers"]) + 1
    for key, value in before.items():
        same = (after[key][1], value[0]) if key in class_rows else (after[key], value)
        assert torch.equal(*same), key
    nothing = "denoising.embedding.weight"  # its last row: no target at all
    assert torch.equal(after[nothing][-1], before[nothing][-1])


def test_training_starts_from_a_detector_with_the_same_arguments(tmp_path: Path):
    save(_detector(), tmp_path)
    card = ModelCard("detr_r18_tiny", SMALL, Categories((1,), ("dog",)))
    started = initialize(card, str(tmp_path))
    assert started.training
    assert torch.equal(started.class_head.weight[0], _detector().class_head.weight[1])
    family = ModelCard("setmatch_n", {"denoising_queries": 100}, Categories((1,), ("dog",)))
    assert initialize(family, "scenes_n").card.arguments["denoising_queries"] == 100
    other = ModelCard("detr_r18_tiny", SMALL | {"dim": 64}, PETS)
    with pytest.raises(WeightsError, match="dim is 32 there, 64 here"):
        initialize(other, str(tmp_path))
    with pytest.raises(WeightsError, match="--model detr_r18_tiny"):
        initialize(ModelCard("detr_r50", SMALL, PETS), str(tmp_path))


def test_imagenet_weights_load_into_the_backbone(tmp_path: Path, monkeypatch):
    """Offline, the error names the file; with a file made here, the real code loads it."""
    from torchvision.models import ResNet50_Weights, resnet50

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = ResNet50_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    card = ModelCard("detr_r50", SMALL, PETS)
    with pytest.raises(WeightsError, match=name):
        initialize(card, None)
    torch.manual_seed(3)
    pretrained = resnet50()
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    torch.save(pretrained.state_dict(), tmp_path / "checkpoints" / name)
    started = initialize(card, None)
    conv = started.backbone.body.layer3[2].conv2
    assert torch.equal(conv.weight, pretrained.layer3[2].conv2.weight)
    assert torch.equal(conv.norm.running_var, pretrained.layer3[2].bn2.running_var)
    assert json.dumps(started.card.arguments)


def test_a_folder_that_takes_no_files_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="name a"):
            save(_detector("setmatch_n"), folder)


def test_nothing_is_said_of_the_classes_of_weights_that_are_refused(caplog):
    """Weights of another model: what became of their classes would hide the reason."""
    card = ModelCard("detr_nano", {}, Categories((1,), ("circle",)))
    with pytest.raises(WeightsError, match="weights of setmatch_n do not fit detr_nano"):
        initialize(card, "scenes_n")
    assert "class head" not in caplog.text
