"""Files of RF-DETR's published code: what they tell, what is assumed, and on what terms."""

import argparse
from pathlib import Path

import pytest
import torch

import setmatch
from known_models import SMALL_RFDETR
from setmatch.errors import WeightsError
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.models.rfdetr.checkpoint import PUBLISHED, REQUIRED_ARGS
from setmatch.models.rfdetr.key_map import PUBLISHED_NAMES
from setmatch.models.weights.classes.coco import COCO_CLASSES
from setmatch.models.weights.layouts.key_map import to_layout
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

ARGS = {
    "num_windows": 2,
    "sa_nheads": 4,
    "ca_nheads": 8,
    "out_feature_indexes": [1, 3],
    "resolution": 96,
}
FOUR = Categories((0, 1, 2, 3), ("a", "b", "c", None))


def _published(model: Detector) -> dict[str, torch.Tensor]:
    """The tensors of a model as the published code has them: queries in a row, a block unused."""
    state = dict(model.state_dict())
    for name in ("queries.content", "queries.places"):
        state[name] = state[name].flatten(0, 1)
    block = len(model.backbone.blocks)
    return to_layout(state, PUBLISHED_NAMES) | {
        "backbone.0.encoder.encoder.embeddings.mask_token": torch.zeros(1, 24),
        f"backbone.0.encoder.encoder.encoder.layer.{block}.norm1.weight": torch.ones(24),
    }


def _model(categories: Categories = COCO_CLASSES, **arguments) -> Detector:
    """With heads of 64 features, as every published one has."""
    torch.manual_seed(0)
    sizes = {**SMALL_RFDETR, "backbone_dim": 24, "backbone_heads": 1, **arguments}
    return build(ModelCard("rfdetr_n", sizes, categories, Preprocessing())).eval()


def _predict(model: Detector) -> torch.Tensor:
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        predictions = model(Batch.from_images(list(pixels)))[0].predictions
    return torch.cat([predictions.logits, predictions.cxcywh], dim=-1)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("plain", [True, False], ids=["dict", "namespace"])
def test_a_file_of_the_published_code_loads_with_its_settings(
    prefix: str, plain: bool, tmp_path: Path
):
    model = _model()
    tensors = {prefix + key: value for key, value in _published(model).items()}
    args = ARGS if plain else argparse.Namespace(**ARGS)
    torch.save({"model": tensors, "args": args, "epoch": 3}, tmp_path / "mine.pth")
    again = setmatch.load(tmp_path / "mine.pth")
    assert torch.equal(_predict(again), _predict(model))
    assert again.card.preprocessing == Preprocessing(96, 96, size_px=(96, 96))
    assert again.card.categories == COCO_CLASSES
    assert again.card.license == "unknown"
    assert again.card.arguments == model.card.arguments


def test_what_a_file_does_not_tell_is_that_of_the_nearest_preset(tmp_path: Path, caplog):
    model = build(ModelCard("rfdetr_b", {"query_groups": 1, "num_queries": 5}, COCO_CLASSES)).eval()
    torch.save(_published(model), tmp_path / "base.pth")
    again = setmatch.load(tmp_path / "base.pth")
    assert again.card.preset == "rfdetr_b"
    assert again.card.arguments == model.card.arguments
    assert again.card.preprocessing.size_px == (560, 560)
    assert "assumed num_windows, sa_nheads, ca_nheads, out_feature_indexes" in caplog.text


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b", "c"], ("a", "b", "c", None)),  # the last column is the background's
        (["a", "b", "c", "d"], ("a", "b", "c", "d")),
        (["a"], (None,) * 4),
        (None, (None,) * 4),
    ],
)
def test_classes_have_the_names_in_the_file(names, expected, tmp_path: Path, caplog):
    args = ARGS | {"class_names": names}
    torch.save({"model": _published(_model(FOUR)), "args": args}, tmp_path / "mine.pth")
    assert setmatch.load(tmp_path / "mine.pth").card.categories.names == expected
    assert ("one off" in caplog.text) == (names is not None and len(names) == 3)


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize(
    "as_written",
    [
        lambda names: dict(enumerate(names, 1)),
        lambda names: dict(zip(names, names, strict=True)),
        lambda names: "".join(names),
        lambda names: [[each] for each in names],
        lambda names: [None] * len(names),
        lambda names: list(range(len(names))),
    ],
)
def test_what_is_no_list_of_names_names_no_class(as_written, number, tmp_path: Path, caplog):
    """The keys of a dictionary would be names, and the letters of a word."""
    args = ARGS | {"class_names": as_written("abcd"[:number])}
    torch.save({"model": _published(_model(FOUR)), "args": args}, tmp_path / "mine.pth")
    assert setmatch.load(tmp_path / "mine.pth").card.categories.names == (None,) * 4
    assert "class_names are not a list of names" in caplog.text


def test_coco_has_91_columns_and_the_ids_of_its_classes(tmp_path: Path):
    torch.save({"model": _published(_model()), "args": ARGS}, tmp_path / "mine.pth")
    categories = setmatch.load(tmp_path / "mine.pth").card.categories
    assert len(categories) == 91
    assert categories.names[0] is None
    assert (categories.names[1], categories.names[90]) == ("person", "toothbrush")
    assert sum(name is not None for name in categories.names) == 80


@pytest.mark.parametrize(
    ("file", "trained_from", "terms"),
    [
        ("rf-detr-xlarge.pth", None, "roboflow-pml-1.0"),
        ("rf-detr-2xlarge.pth", None, "roboflow-pml-1.0"),
        ("RF-DETR-XXLarge.pth", None, "roboflow-pml-1.0"),
        ("rfdetr_xl.pth", None, "roboflow-pml-1.0"),
        ("mine.pth", "/models/rf-detr-xlarge.pth", "roboflow-pml-1.0"),
        ("rf-detr-base-o365.pth", None, "objects365"),
        ("rf-detr-seg-xlarge.pt", None, None),
        ("rf-detr-large-2026.pth", None, None),
        ("voxl_boxes.pth", "rf-detr-nano.pth", None),
    ],
)
def test_weights_with_terms_are_refused_until_these_are_accepted(
    file: str, trained_from: str | None, terms: str | None, tmp_path: Path
):
    args = ARGS | {"pretrain_weights": trained_from}
    torch.save({"model": _published(_model()), "args": args}, tmp_path / file)
    if terms is not None:
        with pytest.raises(WeightsError, match=f'accept_license="{terms}"') as caught:
            setmatch.load(tmp_path / file)
        assert "\n" not in str(caught.value)
    published = "Apache-2.0" if file in {each.name for each in PUBLISHED.values()} else "unknown"
    license = setmatch.load(tmp_path / file, accept_license=terms).card.license
    assert license == (terms or published)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_are_checked_by_the_hash_of_their_authors(
    name: str, tmp_path: Path, monkeypatch
):
    """A file that is not what was published is refused; without a network the address is named."""
    published = PUBLISHED[name]
    assert published.license == "Apache-2.0"
    monkeypatch.setattr("setmatch.models.weights.downloads.download.cache_folder", lambda: tmp_path)

    def unreachable(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("setmatch.models.weights.downloads.download.download", unreachable)
    with pytest.raises(WeightsError, match=rf"{published.url}.*put it at .*{published.file}"):
        setmatch.load(name)
    torch.save({"model": _published(_model()), "args": ARGS}, tmp_path / published.name)
    with pytest.raises(WeightsError, match=f"its MD5 starts with .*{published.digest[:8]}"):
        setmatch.load(name)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_windows": "two"}, "windows"),
        ({"sa_nheads": 5}, "heads"),
        ({"ca_nheads": 0}, "cross_heads"),
        ({"out_feature_indexes": [3, 1]}, "outputs"),
        ({"out_feature_indexes": [1, 5]}, "missing"),
        ({"out_feature_indexes": None}, "TypeError"),
        ({"resolution": -3}, "size_px|side_px"),
    ],
)
def test_settings_of_another_model_are_one_line(change: dict, problem: str, tmp_path: Path):
    torch.save({"model": _published(_model()), "args": ARGS | change}, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=problem) as caught:
        setmatch.load(tmp_path / "mine.pth")
    assert str(tmp_path / "mine.pth") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_features_of_several_strides_are_not_read(tmp_path: Path):
    """As the first RF-DETR-L has them."""
    more = {"backbone.0.projector.stages.1.1.weight": torch.ones(32)}
    torch.save({"model": _published(_model()) | more, "args": ARGS}, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="rfdetr_l"):
        setmatch.load(tmp_path / "mine.pth")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bbox_reparam", False),
        ("lite_refpoint_refine", False),
        ("two_stage", False),
        ("mask_downsample_ratio", 2),
    ],
)
def test_a_form_that_no_tensor_shows_and_that_is_not_read_is_refused(
    name: str, value: object, tmp_path: Path
):
    """Its boxes would be decoded as those of another model."""
    torch.save({"model": _published(_model()), "args": ARGS | REQUIRED_ARGS}, tmp_path / "mine.pth")
    setmatch.load(tmp_path / "mine.pth")
    args = argparse.Namespace(**ARGS | REQUIRED_ARGS | {name: value})
    torch.save({"model": _published(_model()), "args": args}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=rf"other.pth: its args .*{name} \({value}\)") as caught:
        setmatch.load(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)
