"""Training of a published family starts its backbone from the weights that its authors start from.

Offline, the files are written here, in the authors' names, from the tensors of a small backbone.
"""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from known_models import (
    SMALL_DEIMV2,
    SMALL_DFINE,
    SMALL_LWDETR,
    SMALL_RFDETR,
    SMALL_RTDETR,
)
from setmatch.errors import WeightsError
from setmatch.models import rfdetr
from setmatch.models.detector import Detector
from setmatch.models.dfine.key_map import ORIGINAL as DFINE
from setmatch.models.initialize import initialize
from setmatch.models.lwdetr.key_map import ORIGINAL as LWDETR
from setmatch.models.lwdetr.key_map import POSITION, VIT
from setmatch.models.registry import STARTS, build
from setmatch.models.rfdetr.key_map import PUBLISHED_NAMES
from setmatch.models.rfdetr.key_map import VIT as DINO
from setmatch.models.rtdetr.key_map import ORIGINAL as RTDETR
from setmatch.models.weights.layouts.key_map import Table, to_layout
from setmatch.models.weights.terms import accepting
from setmatch.structures.metadata import Categories, ModelCard

ONE = Categories((0,), ("a",))
thorough = partial(pytest.param, marks=pytest.mark.thorough)
HGNET, RESNET = "PPHGNetV2_{}_stage1.pth", "ResNet{}_pretrained_from_paddle.pth"
PRESETS = [
    ("dfine_n", {**SMALL_DFINE, "points": (3, 3)}, DFINE, HGNET.format("B0")),
    thorough("dfine_m", SMALL_DFINE, DFINE, HGNET.format("B2")),
    thorough("dfine_l", SMALL_DFINE, DFINE, HGNET.format("B4")),
    thorough("deimv2_n", {**SMALL_DFINE, "points": (3, 3)}, DFINE, HGNET.format("B0")),
    ("deimv2_pico", SMALL_DEIMV2, DFINE, HGNET.format("B0")),
    ("rtdetr_r18", SMALL_RTDETR, RTDETR, RESNET.format("18_vd")),
    ("rtdetr_v2_r50_m", SMALL_RTDETR, RTDETR, RESNET.format("50_vd_ssld_v2")),
    thorough("rtdetr_v2_r101", SMALL_RTDETR, RTDETR, RESNET.format("101_vd_ssld")),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network, and nothing downloaded yet."""
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path))

    def refuse(url: str, *_: object) -> None:
        raise OSError(f"no network for {url}")

    monkeypatch.setattr("setmatch.models.weights.downloads.download.download", refuse)
    return tmp_path


def write_backbone(detector: Detector, table: Table, path: Path) -> None:
    """Save the backbone alone, in the names of the authors' backbone."""
    ours = {f"backbone.{key}": value for key, value in detector.backbone.state_dict().items()}
    theirs = to_layout({k: v for k, v in ours.items() if not k.endswith("tracked")}, table)
    torch.save({key.removeprefix("backbone."): value for key, value in theirs.items()}, path)


def with_other_values(detector: Detector) -> Detector:
    """Give norms statistics that no new backbone has."""
    generator = torch.Generator().manual_seed(7)
    for value in detector.backbone.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return detector


def values(module: torch.nn.Module) -> dict[str, Tensor]:
    """The tensors of a module, without the counters of its norms."""
    return {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize(("preset", "arguments", "table", "file"), PRESETS)
def test_the_authors_file_fills_the_backbone_alone(
    preset: str, arguments: dict, table: Table, file: str, cache: Path
):
    card = ModelCard(preset, arguments, ONE)
    trained = with_other_values(build(card))
    write_backbone(trained, table, cache / file)
    torch.manual_seed(1)
    expected = build(card)
    torch.manual_seed(1)
    started = initialize(card, "imagenet")
    assert started.training
    for name, value in values(started.backbone).items():
        assert torch.equal(value, trained.backbone.state_dict()[name])
    for part in ("encoder", "decoder", "queries"):
        for name, value in values(started.get_submodule(part)).items():
            assert torch.equal(value, expected.get_submodule(part).state_dict()[name])


@pytest.mark.parametrize("preset", sorted(each for each in STARTS if "lwdetr" not in each))
def test_without_a_network_the_error_names_the_address_and_the_place(
    preset: str, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "setmatch.models.weights.downloads.hub.why_unreachable", lambda: "no network"
    )
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    with pytest.raises(WeightsError) as raised:
        STARTS[preset].read()
    said = str(raised.value)
    assert "https://" in said
    assert STARTS[preset].name in said
    assert "\n" not in said
    if preset != "rfdetr_b":
        assert str(cache / STARTS[preset].name) in said


def test_other_sizes_than_the_files_are_refused_before_anything_is_filled(cache: Path):
    small, wider = ModelCard("dfine_s", SMALL_DFINE, ONE), {**SMALL_DFINE, "stem": (8, 16)}
    write_backbone(build(small), DFINE, cache / HGNET.format("B0"))
    with pytest.raises(WeightsError, match=r"PPHGNetV2_B0_stage1.pth: .* dfine_s: \d+ of \d+"):
        initialize(ModelCard("dfine_s", wider, ONE), "imagenet")


def test_a_file_of_more_stages_fills_a_shorter_backbone(cache: Path):
    """DEIMv2-Femto and -Pico have three of the four stages of HGNetV2-B0."""
    longer = {**SMALL_DFINE, "points": (3, 3)}
    stages = {key: value for key, value in SMALL_DEIMV2.items() if key.startswith("stage")}
    for key, value in stages.items():
        longer[key] = (*value, value[-1])
    write_backbone(build(ModelCard("deimv2_n", longer, ONE)), DFINE, cache / HGNET.format("B0"))
    initialize(ModelCard("deimv2_pico", SMALL_DEIMV2, ONE), "imagenet")


def test_deimv2_atto_keeps_its_own_last_stage(cache: Path, caplog: pytest.LogCaptureFixture):
    """It is narrower than that of B0: as published, what does not fit starts random."""
    wider = {**SMALL_DEIMV2, "stage_out": (16, 24, 40)}
    trained = with_other_values(build(ModelCard("deimv2_pico", wider, ONE)))
    write_backbone(trained, DFINE, cache / HGNET.format("B0"))
    started = initialize(ModelCard("deimv2_atto", SMALL_DEIMV2, ONE), "imagenet")
    same = {
        name: torch.equal(value, trained.backbone.state_dict()[name])
        for name, value in values(started.backbone).items()
        if value.shape == trained.backbone.state_dict()[name].shape
    }
    assert all(same.values())
    assert len(same) < len(values(started.backbone))
    assert "start random" in caplog.text
    with pytest.raises(WeightsError, match="missing there or have other sizes"):
        initialize(ModelCard("deimv2_femto", SMALL_DEIMV2, ONE), "imagenet")


def test_a_file_of_something_else_is_one_line(cache: Path):
    torch.save({"conv.weight": torch.ones(2)}, cache / HGNET.format("B0"))
    with pytest.raises(WeightsError, match="no weights for the backbone of this deimv2_atto"):
        initialize(ModelCard("deimv2_atto", SMALL_DEIMV2, ONE), "imagenet")


def test_lwdetr_starts_from_objects365_once_its_terms_are_accepted(cache: Path):
    """The file has one more position, for a class token, and "encoder." before its names."""
    card = ModelCard("lwdetr_m", SMALL_LWDETR, ONE)
    trained = with_other_values(build(card))
    ours = {f"backbone.{key}": value for key, value in trained.backbone.state_dict().items()}
    theirs = to_layout(ours, LWDETR)
    theirs[POSITION] = torch.cat([theirs[POSITION][:, :1], theirs[POSITION]], dim=1)
    plain = {f"encoder.{key.removeprefix(VIT + '.')}": value for key, value in theirs.items()}
    file = cache / "caev2_small_300e_objects365.pth"
    torch.save({"model": plain | {"mask_token": torch.ones(1)}}, file)
    with pytest.raises(WeightsError, match="--accept-license objects365"):
        initialize(card, "imagenet")
    with accepting("objects365"):
        started = initialize(card, "imagenet")
    for name, value in values(started.backbone).items():
        assert torch.equal(value, trained.backbone.state_dict()[name])


def test_rfdetr_b_starts_from_dinov2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    card = ModelCard("rfdetr_b", SMALL_RFDETR, ONE)
    trained = with_other_values(build(card))
    ours = {f"backbone.{key}": value for key, value in trained.backbone.state_dict().items()}
    plain = {key.removeprefix(f"{DINO}."): v for key, v in to_layout(ours, PUBLISHED_NAMES).items()}
    torch.save(plain | {"embeddings.mask_token": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    assert "rfdetr_b" in rfdetr.FAMILY.starts
    monkeypatch.setattr(
        "setmatch.models.rfdetr.backbone_start.fetch_published", lambda *_: tmp_path
    )
    started = initialize(card, "imagenet")
    for name, value in values(started.backbone).items():
        assert torch.equal(value, trained.backbone.state_dict()[name])


def test_sizes_of_rfdetr_without_a_published_start_say_so():
    with pytest.raises(WeightsError, match="rfdetr_n: there are no ImageNet weights"):
        initialize(ModelCard("rfdetr_n", SMALL_RFDETR, ONE), "imagenet")
