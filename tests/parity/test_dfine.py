"""Against transformers' D-FINE, built from its config: both directions, and the authors' layout."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import DFineForObjectDetection

import setmatch
from setmatch.errors import WeightsError
from setmatch.models.load import convert_weights
from setmatch.structures.metadata import Categories
from thorough import usually

from .comparison import (
    assert_every_layer_predicts_the_same,
    assert_refused,
    load_from_objects365,
    millions_of_parameters,
    predictions_of,
    random_pixels,
    replace_hub,
    write_authors,
    write_theirs,
)
from .small_dfine import CASES, every_layer, small_dfine

SQUARE, WIDE, TALL = (96, 96), (64, 128), (160, 64)


def _saved(case: str, tmp_path: Path) -> DFineForObjectDetection:
    model = small_dfine(case)
    model.save_pretrained(tmp_path / "theirs")
    return model


@pytest.mark.parametrize("case", usually(CASES, "n", "other", "fewest_layers"))
def test_every_decoder_layer_predicts_what_transformers_does(case: str, tmp_path: Path):
    reference = _saved(case, tmp_path)
    model = setmatch.load(tmp_path / "theirs")
    sizes = ((SQUARE, 2), (WIDE, 1), (TALL, 2))
    assert_every_layer_predicts_the_same(model, reference, every_layer, sizes)


@pytest.mark.parametrize("case", usually(["n", "x", "other", "fewest_layers"], "other"))
@pytest.mark.parametrize("layout", ["transformers", "original"])
def test_other_layouts_bring_the_model_back(case: str, layout: str, tmp_path: Path):
    reference = _saved(case, tmp_path)
    convert_weights(tmp_path / "theirs", tmp_path / "other", layout)
    pixels = random_pixels(SQUARE, 1, torch.float32)
    ours = predictions_of(setmatch.load(tmp_path / "theirs"), pixels)
    if layout == "original":
        settings = reference.config
        state = torch.load(tmp_path / "other", weights_only=True)["model"]
        wrapped = {"ema": {"module": {f"module.{key}": value for key, value in state.items()}}}
        (tmp_path / "other").unlink()
        torch.save(wrapped, tmp_path / "other.pth")
        again = setmatch.load(tmp_path / "other.pth", num_queries=settings.num_queries)
        usual = (settings.encoder_attention_heads, settings.decoder_offset_scale)
        if usual != (8, 0.5):  # the layout has no place for them
            assert again.card.arguments["encoder_heads"] == 8
            for layer in again.encoder.layers:
                layer.self_attention.heads = settings.encoder_attention_heads
            for layer in again.decoder.layers:
                layer.cross_attention.offset_scale = settings.decoder_offset_scale
    else:
        again = setmatch.load(tmp_path / "other")
        theirs, report = DFineForObjectDetection.from_pretrained(
            tmp_path / "other", output_loading_info=True
        )
        assert not any(report.values())
        logits, _ = every_layer(theirs.eval(), pixels)
        assert torch.allclose(logits, ours.logits, atol=1e-4)
    found = predictions_of(again, pixels)
    assert torch.equal(found.logits, ours.logits)
    assert torch.equal(found.cxcywh, ours.cxcywh)


def test_the_authors_layout_has_the_names_of_their_code(tmp_path: Path):
    """As transformers' public conversion script reads them."""
    write_authors(tmp_path / "model.pth", small_dfine, "x")
    state = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    names = {re.sub(r"\d+", "0", key.rpartition(".")[0]) for key in state}
    assert {
        "backbone.stem.stem0a.conv",
        "backbone.stages.0.blocks.0.layers.0.conv0.bn",
        "backbone.stages.0.blocks.0.aggregation.0.conv",
        "backbone.stages.0.downsample.bn",
        "encoder.input_proj.0.conv",
        "encoder.encoder.0.layers.0.self_attn.out_proj",
        "encoder.encoder.0.layers.0.linear0",
        "encoder.lateral_convs.0.norm",
        "encoder.fpn_blocks.0.cv0.0.bottlenecks.0.conv0.conv",
        "encoder.pan_blocks.0.cv0.0.norm",
        "encoder.downsample_convs.0.0.cv0.conv",
        "decoder.input_proj.0.norm",
        "decoder.decoder.layers.0.cross_attn.sampling_offsets",
        "decoder.decoder.layers.0.gateway.gate",
        "decoder.decoder.lqe_layers.0.reg_conf.layers.0",
        "decoder.dec_score_head.0",
        "decoder.dec_bbox_head.0.layers.0",
        "decoder.pre_bbox_head.layers.0",
        "decoder.enc_output.proj",
        "decoder.denoising_class_embed",
    } <= names
    assert "decoder.decoder.layers.0.self_attn.in_proj_weight" in state
    assert state["decoder.anchors"].shape == (1, 80**2 + 40**2 + 20**2, 4)
    assert state["decoder.valid_mask"].dtype == torch.bool


def test_the_sizes_of_published_models_are_those_of_their_names():
    """Parameters in millions, as the authors give them."""
    for name, millions in (("n", 3.8), ("s", 10.3), ("m", 19.6), ("l", 31.3), ("x", 62.7)):
        assert millions_of_parameters(f"dfine_{name}", 80) == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("decoder_method", "discrete"),
        ("eval_idx", 1),
        ("normalize_before", True),
        ("activation_function", "relu"),
        ("encode_proj_layers", [1]),
        ("eval_size", 640),
    ],
)
def test_a_config_of_another_model_is_one_line(setting: str, value: object, tmp_path: Path):
    config = small_dfine().config
    setattr(config, setting, value)
    write_theirs(tmp_path, small_dfine)
    config.save_pretrained(tmp_path)
    assert_refused(tmp_path, setting)


def test_a_published_name_is_its_repository_at_a_fixed_commit(monkeypatch, tmp_path: Path):
    """The hub is replaced by a folder; a file that is not the published one is refused."""
    write_theirs(tmp_path, small_dfine)
    asked = replace_hub(tmp_path, monkeypatch)
    model = setmatch.load("dfine_m")
    assert model.card.license == "Apache-2.0"
    assert asked == [
        ("ustc-community/dfine-medium-coco", "4ab9f5e466432f4fcf9a9a023da6aa5ecc9c9829")
    ]
    with pytest.raises(WeightsError, match=r"model\.safetensors: its SHA-256"):
        setmatch.load("dfine_s")


def test_without_a_network_the_error_says_what_to_fetch(monkeypatch):
    def download(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(WeightsError, match=r"dfine_s: .*huggingface\.co/ustc-community/\S+f79e65"):
        setmatch.load("dfine_s")


@pytest.mark.parametrize(
    "name",
    usually(
        [
            "dfine_s_obj365.pth",
            "dfine-small-obj2coco",
            "dfine-small-obj2coco/model.safetensors",
            "other",
        ],
        "dfine-small-obj2coco",
        "other",
    ),
)
def test_weights_trained_on_objects365_need_their_terms_accepted(name: str, tmp_path: Path):
    """By the name of the file or folder, or by 366 classes."""
    reference = small_dfine(num_labels=366 if name == "other" else 7)
    reference.save_pretrained(tmp_path / "other")
    if name.endswith(".pth"):
        convert_weights(tmp_path / "other", tmp_path / name, "original")
    elif name != "other":
        (tmp_path / "other").rename(tmp_path / name.removesuffix("/model.safetensors"))
    model = load_from_objects365(tmp_path / name)
    setmatch.save(model, tmp_path / "ours")
    assert setmatch.load(tmp_path / "ours").card.license == "objects365"


def test_the_authors_coco_file_has_the_license_of_their_code(tmp_path: Path):
    write_authors(tmp_path / "dfine_s_coco.pth", small_dfine)
    assert setmatch.load(tmp_path / "dfine_s_coco.pth").card.license == "Apache-2.0"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state, key: state.pop(key), r"decoder\.layers\.1\.gate\.weights\.bias is missing"),
        (lambda state, key: state.update({f"{key}.more": torch.zeros(1)}), "no name for it"),
        (lambda state, key: state.update({key: torch.zeros(3)}), r"is \(3,\), not \(64,\)"),
        (lambda state, _: state.pop("decoder.up"), "decoder.reach"),
    ],
)
def test_a_checkpoint_with_other_tensors_is_one_line_with_its_path(
    change, problem: str, tmp_path: Path
):
    write_authors(tmp_path / "model.pth", small_dfine)
    state = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    change(state, "decoder.decoder.layers.1.gateway.gate.bias")
    torch.save({"model": state}, tmp_path / "model.pth")
    assert_refused(tmp_path / "model.pth", problem)


@pytest.mark.parametrize(
    ("name", "class_loss", "activation"),
    [
        ("deim_dfine_hgnetv2_s_coco_120e.pth", "matchability", "silu"),
        ("dfine_s_coco.pth", "varifocal", "relu"),
    ],
)
def test_a_file_of_deim_has_its_loss_and_its_activation(
    name: str, class_loss: str, activation: str, tmp_path: Path
):
    """DEIM's configurations train D-FINE's decoder with SiLU; the file does not store it."""
    write_authors(tmp_path / name, small_dfine)
    _without_settings(tmp_path / name)
    model = setmatch.load(tmp_path / name)
    arguments = model.card.arguments
    assert (arguments["class_loss"], arguments["activation"]) == (class_loss, activation)
    decoder = model.decoder
    function = {"silu": F.silu, "relu": F.relu}[activation]
    perceptrons = (
        *decoder.edge_heads,
        *(each.perceptron for each in decoder.quality),
        decoder.position,
        decoder.start,
        model.queries.box_step,
    )
    assert all(each.activation is function for each in perceptrons)
    assert {type(layer.ffn[1]).__name__.lower() for layer in decoder.layers} == {activation}


def test_a_file_that_is_written_here_keeps_its_activation_under_any_name(tmp_path: Path):
    """It has beside the tensors what the authors have in their configuration alone."""
    write_authors(tmp_path / "deim_s.pth", small_dfine)
    _without_settings(tmp_path / "deim_s.pth")
    convert_weights(tmp_path / "deim_s.pth", tmp_path / "detector.pth", "original")
    model, again = (setmatch.load(tmp_path / name) for name in ("deim_s.pth", "detector.pth"))
    assert again.card.arguments == model.card.arguments
    assert again.card.arguments["activation"] == "silu"


def _without_settings(path: Path) -> None:
    """Leave the tensors alone, as the authors' files have them."""
    torch.save({"model": torch.load(path, weights_only=True)["model"]}, path)


def test_transformers_has_no_decoder_of_another_activation(tmp_path: Path):
    """Its D-FINE would compute something else from the same tensors."""
    write_authors(tmp_path / "deim_s.pth", small_dfine)
    _without_settings(tmp_path / "deim_s.pth")
    with pytest.raises(WeightsError, match=r"dfine_\w: transformers' D-FINE has ReLU .* 'silu'"):
        convert_weights(tmp_path / "deim_s.pth", tmp_path / "again", "transformers")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("layout", usually(["original", "transformers"], "original"))
def test_the_columns_of_objects365_end_as_names(layout: str, tmp_path: Path):
    """There is one for each id from 0, which is no class; rows go to the classes of their name."""
    small_dfine(num_labels=366).save_pretrained(tmp_path / "obj365")
    source = tmp_path / "obj365"
    if layout == "original":
        source = tmp_path / "dfine_s_obj365.pth"
        accepted = {"accept_license": "objects365"}
        convert_weights(tmp_path / "obj365", source, "original", **accepted)
    model = setmatch.load(source, accept_license="objects365")
    known = model.card.categories
    assert [known.names[index] for index in (0, 1, 47, 365)] == [
        None,
        "Person",
        "Bicycle",
        "Table Tennis",
    ]
    wanted = Categories((3, 9, 11), ("bicycle", "unicorn", "person"))
    tuned = setmatch.load(source, categories=wanted, accept_license="objects365")
    assert tuned.card.license == "objects365"
    for old, new in zip(model.decoder.class_heads, tuned.decoder.class_heads, strict=True):
        assert torch.equal(new.weight[[0, 2]], old.weight[[47, 1]])
        assert torch.equal(new.bias[[0, 2]], old.bias[[47, 1]])
    rows = model.denoising.embedding.weight, tuned.denoising.embedding.weight
    assert torch.equal(rows[1][[0, 2]], rows[0][[47, 1]])
