"""Against transformers' RT-DETR and RT-DETRv2: both directions, and the authors' layouts."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import RTDetrV2ForObjectDetection

import setmatch
from known_models import SMALL_RTDETR
from setmatch.errors import WeightsError
from setmatch.models.load import convert_weights
from setmatch.models.registry import build
from setmatch.models.weights.classes.coco import COCO_THINGS
from setmatch.structures.batch import Target
from setmatch.structures.metadata import Categories, ModelCard
from thorough import usually

from .comparison import (
    assert_every_layer_predicts_the_same,
    assert_refused,
    load_from_objects365,
    millions_of_parameters,
    predictions_of,
    random_pixels,
    replace_hub,
    whole_images,
    write_authors,
    write_theirs,
)
from .small_rtdetr import CASES, Model, every_layer, small_rtdetr

SQUARE, WIDE, TALL = (96, 96), (64, 128), (160, 64)
USUAL = ("r18", "further_level", "v2_r50", "v2_nearest")
NAMES = Categories((1, 2), ("cat", "dog"))
NOTHING = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))


def _saved(case: str, tmp_path: Path) -> Model:
    model = small_rtdetr(case)
    model.save_pretrained(tmp_path / "theirs")
    return model


@pytest.mark.parametrize("case", usually(CASES, *USUAL))
def test_every_decoder_layer_predicts_what_transformers_does(case: str, tmp_path: Path):
    reference = _saved(case, tmp_path)
    model = setmatch.load(tmp_path / "theirs")
    sizes = ((SQUARE, 2), (WIDE, 1), (TALL, 2))
    assert_every_layer_predicts_the_same(model, reference, every_layer, sizes)


@pytest.mark.parametrize(
    "case", usually(["r18", "r50", "two_levels", "further_level", "v2_r50"], "v2_r50")
)
@pytest.mark.parametrize("layout", ["transformers", "original"])
def test_other_layouts_bring_the_model_back(case: str, layout: str, tmp_path: Path):
    reference = _saved(case, tmp_path)
    convert_weights(tmp_path / "theirs", tmp_path / "other", layout)
    pixels = random_pixels(SQUARE, 1, torch.float32)
    ours = predictions_of(setmatch.load(tmp_path / "theirs"), pixels)
    again = setmatch.load(tmp_path / "other")
    if layout == "transformers":
        theirs, report = type(reference).from_pretrained(
            tmp_path / "other", output_loading_info=True
        )
        assert not any(report.values())
        logits, _ = every_layer(theirs.eval(), pixels)
        assert torch.allclose(logits, ours.logits, atol=1e-4)
    found = predictions_of(again, pixels)
    assert torch.equal(found.logits, ours.logits)
    assert torch.equal(found.cxcywh, ours.cxcywh)


@pytest.mark.parametrize("case", usually(["r18", "further_level", "v2_r18"], "further_level"))
def test_the_authors_file_is_read_as_they_wrap_it(case: str, tmp_path: Path):
    """Their files have an average, prefixes of parallel training, and no number of heads."""
    settings = _saved(case, tmp_path).config
    convert_weights(tmp_path / "theirs", tmp_path / "model.pth", "original")
    state = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    wrapped = {"ema": {"module": {f"module.{key}": value for key, value in state.items()}}}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    model = setmatch.load(tmp_path / "wrapped.pth")
    assert model.card.arguments["encoder_heads"] == 8
    assert model.card.arguments["num_queries"] == 300
    heads = [layer.self_attention for layer in (*model.encoder.layers, *model.decoder.layers)]
    for attention in (*heads, *(layer.cross_attention for layer in model.decoder.layers)):
        attention.heads = settings.decoder_attention_heads
    for layer in model.decoder.layers:
        points = [settings.decoder_n_points] * settings.num_feature_levels
        layer.cross_attention.points = points
    model.queries.num_queries = settings.num_queries
    pixels = random_pixels(SQUARE, 1, torch.float32)
    expected = predictions_of(setmatch.load(tmp_path / "theirs"), pixels)
    assert torch.equal(predictions_of(model, pixels).logits, expected.logits)


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("r50", ("encoder.input_proj.0.1", "decoder.enc_output.0")),
        ("v2_r50", ("encoder.input_proj.0.norm", "decoder.enc_output.proj")),
    ],
)
def test_the_authors_layouts_have_the_names_of_their_codes(
    case: str, named: tuple[str, ...], tmp_path: Path
):
    """As transformers' public conversion scripts read them."""
    _saved(case, tmp_path)
    convert_weights(tmp_path / "theirs", tmp_path / "model.pth", "original")
    state = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    names = {key.rpartition(".")[0] for key in state}
    assert {
        *named,
        "backbone.conv1.conv1_1.conv",
        "backbone.conv1.conv1_3.norm",
        "backbone.res_layers.0.blocks.0.short.conv",
        "backbone.res_layers.0.blocks.0.short.norm",
        "backbone.res_layers.1.blocks.0.short.conv.conv",
        "backbone.res_layers.3.blocks.0.short.conv.norm",
        "backbone.res_layers.3.blocks.1.branch2a.conv",
        "backbone.res_layers.3.blocks.1.branch2c.norm",
        "encoder.encoder.0.layers.0.self_attn.out_proj",
        "encoder.encoder.0.layers.0.linear1",
        "encoder.lateral_convs.0.norm",
        "encoder.fpn_blocks.0.conv1.conv",
        "encoder.fpn_blocks.1.bottlenecks.2.conv2.norm",
        "encoder.pan_blocks.0.conv2.norm",
        "encoder.downsample_convs.0.conv",
        "decoder.input_proj.0.norm",
        "decoder.decoder.layers.0.cross_attn.sampling_offsets",
        "decoder.decoder.layers.0.cross_attn.output_proj",
        "decoder.decoder.layers.0.norm2",
        "decoder.dec_score_head.0",
        "decoder.dec_bbox_head.0.layers.2",
        "decoder.query_pos_head.layers.1",
        "decoder.denoising_class_embed",
    } <= names
    assert "decoder.decoder.layers.0.self_attn.in_proj_weight" in state
    assert ("decoder.anchors" in state) == case.startswith("v2")
    if case.startswith("v2"):
        assert state["decoder.anchors"].shape == (1, 80**2 + 40**2 + 20**2, 4)


def test_the_sizes_of_published_models_are_those_of_their_names():
    """Parameters in millions, as the authors give them; v2 has the same graph."""
    sizes = {"r18": 20, "r34": 31, "r50": 42, "r101": 76, "v2_r18": 20, "v2_r50_m": 36}
    for name, millions in sizes.items():
        assert millions_of_parameters(f"rtdetr_{name}", 80) == pytest.approx(millions, abs=1.1)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("decoder_method", "other"),
        ("normalize_before", True),
        ("activation_function", "relu"),
        ("encode_proj_layers", [1]),
        ("learn_initial_query", True),
        ("positional_encoding_temperature", 20),
    ],
)
def test_a_config_of_another_model_is_one_line(setting: str, value: object, tmp_path: Path):
    write_theirs(tmp_path, small_rtdetr, "v2_r18")
    config = json.loads((tmp_path / "config.json").read_text()) | {setting: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_refused(tmp_path, setting)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("downsample_in_bottleneck", True),
        ("hidden_act", "silu"),
        ("hidden_sizes", [8, 12, 12, 20]),
        ("out_indices", [1, 2, 3]),
        ("model_type", "resnet"),
    ],
)
def test_another_backbone_is_one_line(setting: str, value: object, tmp_path: Path):
    write_theirs(tmp_path, small_rtdetr)
    config = json.loads((tmp_path / "config.json").read_text())
    config["backbone_config"][setting] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_refused(tmp_path, f"backbone_config.{setting}")


def test_a_model_without_a_place_in_a_layout_is_not_written(tmp_path: Path):
    """Different points on the levels, fewer blocks, two further levels."""
    for name, arguments, layout in (
        ("rtdetr_v2_r18", {"points": (2, 4, 3)}, "transformers"),
        ("rtdetr_r18", {"fusion_blocks": 2}, "transformers"),
        ("rtdetr_r18", {"points": (2, 4, 3)}, "original"),
        ("rtdetr_r18", {"points": (4,) * 5, "extra_levels": 2}, "original"),
    ):
        folder = tmp_path / f"{name}{len(arguments)}{layout}"
        setmatch.save(build(ModelCard(name, SMALL_RTDETR | arguments, NAMES)), folder)
        with pytest.raises(WeightsError, match="write it as setmatch"):
            convert_weights(folder, tmp_path / "other", layout)
        assert not (tmp_path / "other").exists()


def test_transformers_gets_the_layers_that_predict(tmp_path: Path):
    """Of RT-DETRv2-M the authors run three of six layers; transformers runs all there are."""
    arguments = SMALL_RTDETR | {"decoder_layers": 3, "eval_layers": 2}
    model = build(ModelCard("rtdetr_v2_r50_m", arguments, NAMES)).eval()
    setmatch.save(model, tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path / "theirs", "transformers")
    pixels = random_pixels(SQUARE, 1, torch.float32)
    theirs = RTDetrV2ForObjectDetection.from_pretrained(tmp_path / "theirs").eval()
    logits, _ = every_layer(theirs, pixels)
    assert len(logits) == 2
    assert torch.allclose(predictions_of(model, pixels).logits, logits, atol=1e-4)
    assert len(model.train()(whole_images(pixels), [NOTHING])[0].predictions.logits) == 3


@pytest.mark.thorough
def test_the_published_m_model_runs_three_layers(tmp_path: Path):
    """The authors' file does not say so; its sizes do."""
    arguments = {"stem": 4, "stage_out": (8, 12, 16, 20), "stage_blocks": (1, 1, 1, 1)}
    model = build(ModelCard("rtdetr_v2_r50_m", arguments, NAMES))
    setmatch.save(model, tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path / "ours.pth", "original")
    state = torch.load(tmp_path / "ours.pth", weights_only=True)["model"]
    torch.save({"model": state}, tmp_path / "model.pth")
    again = setmatch.load(tmp_path / "model.pth")
    assert again.card.preset == "rtdetr_v2_r50_m"
    assert again.card.arguments["eval_layers"] == 3


@pytest.mark.parametrize("name", ["rtdetrv2_r18vd_dsp_3x_coco.pth", "rtdetrv2_r18vd_120e_coco.pth"])
def test_discrete_sampling_is_known_by_the_name_of_the_file(name: str, tmp_path: Path, caplog):
    write_authors(tmp_path / "ours.pth", small_rtdetr, "v2_r18")
    state = torch.load(tmp_path / "ours.pth", weights_only=True)["model"]
    torch.save({"model": state}, tmp_path / name)
    model = setmatch.load(tmp_path / name)
    assert model.card.arguments["nearest"] == ("dsp" in name)
    assert "by the name of the file" in caplog.text


def test_a_published_name_is_its_repository_at_a_fixed_commit(monkeypatch, tmp_path: Path):
    """The hub is replaced by a folder; a file that is not the published one is refused."""
    write_theirs(tmp_path, small_rtdetr)
    asked = replace_hub(tmp_path, monkeypatch)
    model = setmatch.load("rtdetr_r50")
    assert model.card.license == "Apache-2.0"
    assert asked == [("PekingU/rtdetr_r50vd", "df939e661d8c52e80608d1ec566561aabd25a4e7")]
    with pytest.raises(WeightsError, match=r"model\.safetensors: its SHA-256"):
        setmatch.load("rtdetr_r18")


@pytest.mark.parametrize(
    "name",
    usually(
        ["rtdetr_r18vd_coco_o365", "rtdetr_r50vd_2x_coco_objects365.pth"], "rtdetr_r18vd_coco_o365"
    ),
)
def test_weights_trained_on_objects365_need_their_terms_accepted(name: str, tmp_path: Path):
    write_theirs(tmp_path / "other", small_rtdetr)
    if name.endswith(".pth"):
        convert_weights(tmp_path / "other", tmp_path / name, "original")
    else:
        (tmp_path / "other").rename(tmp_path / name)
    load_from_objects365(tmp_path / name)


def test_the_old_names_of_cocos_classes_are_its_classes(tmp_path: Path):
    """As the published folders have them."""
    old = {"motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "tv": "tvmonitor"}
    old |= {"potted plant": "pottedplant", "dining table": "diningtable"}
    names = [old.get(name, name) for name in COCO_THINGS.names]
    reference = small_rtdetr(num_labels=80)
    reference.config.id2label = dict(enumerate(names))
    reference.save_pretrained(tmp_path)
    assert setmatch.load(tmp_path).card.categories == COCO_THINGS


def test_heads_that_a_file_lacks_are_not_made_up(tmp_path: Path):
    """Layers of RT-DETR never share their heads, as those of RT-DETRv2 may."""
    write_theirs(tmp_path, small_rtdetr)
    path = tmp_path / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if "decoder.class_embed.1" not in k}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"decoder\.class_heads\.1\.bias is missing"):
        setmatch.load(tmp_path)


@pytest.mark.parametrize(
    ("case", "preset"), [("r18", "rtdetr_r18"), ("r50", "rtdetr_r50"), ("v2_r50", "rtdetr_v2_r50")]
)
def test_a_model_of_other_sizes_is_its_nearest_preset(case: str, preset: str, tmp_path: Path):
    _saved(case, tmp_path)
    assert setmatch.load(tmp_path / "theirs").card.preset == preset
