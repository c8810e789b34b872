"""Layers and presets: parity with torch, shapes, gradients, argument checks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.ops import FrozenBatchNorm2d

from known_models import SMALL_LWDETR, SMALL_RFDETR
from setmatch.config import LossWeights, MatchCosts
from setmatch.errors import ConfigError, DataError
from setmatch.losses.criterion import Criterion
from setmatch.models.backbones.resnet import FrozenNormConv2d, frozen_resnet
from setmatch.models.detector import Detector
from setmatch.models.layers.attention.attention import Attention
from setmatch.models.layers.attention.position_encoding import LearnedPosition, SinePosition
from setmatch.models.registry import FAMILIES, build
from setmatch.models.weights.layouts.key_map import TORCHVISION_BACKBONE, from_layout
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from thorough import usually

NAMES = Categories((0, 1), ("a", "b"))
QUERY_PRESETS = [name for family in FAMILIES[:-1] for name in family.presets]  # no baselines
DISTINCT = (  # a preset of each kind of graph
    *("detr_r50", "detr_r50_dc5", "detr_demo", "detr_r18_tiny", "detr_r50_panoptic"),
    *("setmatch_n", "setmatch_n_panoptic", "setmatch_timm", "dfine_n", "dfine_s"),
    *("rtdetr_r18", "rtdetr_r50", "rtdetr_v2_r18", "deimv2_atto", "deimv2_n"),
    *("rfdetr_n", "rfdetr_seg_n", "lwdetr_t", "deformable_detr_r50"),
    *("deformable_detr_r50_single_scale_dc5", "deformable_detr_r50_two_stage"),
    *("conditional_detr_r50", "dab_detr_r50"),
)
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 48, "encoder_layers": 1, "decoder_layers": 1}
SMALL_BY_FAMILY = {
    "rtdetr": {**SMALL, "stage_blocks": (1, 1, 1, 1)},
    "deimv2": {name: size for name, size in SMALL.items() if name != "encoder_layers"},
    "lwdetr": SMALL_LWDETR,
    "rfdetr": SMALL_RFDETR,
    "deformable": {**SMALL, "backbone": "resnet18"},
    "conditional": {**SMALL, "backbone": "resnet18"},
    "dab": {**SMALL, "backbone": "resnet18"},
}


def _small(preset: str = "detr_r18_tiny", **changes):
    torch.manual_seed(0)
    family = SMALL_BY_FAMILY.get(preset.partition("_")[0], SMALL)
    arguments = {**family, "num_queries": 6, **changes}
    if preset.endswith("dc5") and "backbone" in arguments:
        arguments["backbone"] = "resnet50"  # smaller ones cannot be dilated
    return build(ModelCard(preset, arguments, NAMES)).eval()


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 99))
@settings(max_examples=30)
def test_attention_equals_torchs(queries: int, keys: int, masked: bool, seed: int):
    """Output and weights, against nn.MultiheadAttention with the same projections."""
    torch.manual_seed(seed)
    ours, reference = Attention(16, 4, 0.0), nn.MultiheadAttention(16, 4, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        for part in (*parts, ours.out):
            part.bias.normal_()
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.load_state_dict(ours.out.state_dict())
    q, k, v = torch.randn(2, queries, 16), torch.randn(2, keys, 16), torch.randn(2, keys, 16)
    valid = torch.rand(2, keys) > 0.5 if masked else None
    if valid is not None:
        valid[:, 0] = True
    expected, weights = reference(
        q,
        k,
        v,
        key_padding_mask=None if valid is None else ~valid,
        average_attn_weights=False,
    )
    attn_mask = None if valid is None else valid[:, None, None]
    assert torch.allclose(ours(q, k, v, attn_mask), expected, atol=1e-5)
    assert torch.allclose(ours.weights(q, k, attn_mask), weights, atol=1e-5)


def test_folded_norms_equal_norms_after_the_convolution():
    """The whole backbone against torchvision's with its own frozen norms, eps 1e-5."""
    torch.manual_seed(0)
    reference = resnet50(norm_layer=FrozenBatchNorm2d)
    for module in reference.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.4, 0.8)
            module.bias.normal_(0, 0.1)
    ours = frozen_resnet("resnet50")
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    renamed = from_layout(state, TORCHVISION_BACKBONE)
    ours.load_state_dict({k.removeprefix("backbone."): v for k, v in renamed.items()}, strict=True)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = reference.maxpool(reference.relu(reference.bn1(reference.conv1(pixels))))
        for stage in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
            features = stage(features)
        (level,) = ours(pixels)
    assert torch.allclose(level, features, atol=1e-4 * features.abs().max())


def test_stem_and_first_stage_are_not_trained():
    """As published; frozen norms have no parameters."""
    backbone = frozen_resnet("resnet50")
    frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    expected = {
        n for n, _ in backbone.named_parameters() if n.startswith(("body.conv1", "body.layer1"))
    }
    assert frozen == expected
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    assert sum(isinstance(m, FrozenNormConv2d) for m in backbone.modules()) == 53


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1)])
def test_a_frozen_norm_folds_into_any_convolution(kernel: int, stride: int):
    """Output and gradients equal convolution, then norm."""
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, kernel, stride, kernel // 2, bias=False)
    norm = nn.BatchNorm2d(7).eval()
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(values, 0.5, 2.0)
    folded = FrozenNormConv2d(conv)
    folded.norm.load_state_dict(norm.state_dict(), strict=False)
    pixels, pull = torch.randn(2, 5, 9, 8), torch.randn(2, 7, (9 - 1) // stride + 1, 8 // stride)
    ours, theirs = folded(pixels), norm(conv(pixels))
    assert torch.allclose(ours, theirs, atol=1e-5)
    (slope,) = torch.autograd.grad(ours, conv.weight, pull)
    assert torch.allclose(slope, torch.autograd.grad(theirs, conv.weight, pull)[0], atol=1e-3)


def test_the_dilated_backbone_has_twice_the_resolution():
    """A quarter of 800×1066: 7×9 cells, or 13×17 dilated."""
    pixels = torch.zeros(1, 3, 200, 266)
    with torch.no_grad():
        assert frozen_resnet("resnet50")(pixels)[0].shape == (1, 2048, 7, 9)
        assert frozen_resnet("resnet50", dilate_last=True)(pixels)[0].shape == (1, 2048, 13, 17)


def test_sine_positions_ignore_padding():
    sine = SinePosition(32)
    alone = sine(torch.ones(1, 4, 6, dtype=torch.bool))
    valid = torch.zeros(1, 8, 9, dtype=torch.bool)
    valid[:, :4, :6] = True
    assert torch.allclose(sine(valid)[:, :, :4, :6], alone, atol=1e-6)


def test_learned_positions_refuse_more_than_50_rows_or_columns():
    learned = LearnedPosition(16)
    assert learned(torch.ones(1, 50, 50, dtype=torch.bool)).shape == (1, 16, 50, 50)
    with pytest.raises(ConfigError, match="50x51"):
        learned(torch.ones(1, 50, 51, dtype=torch.bool))


@pytest.fixture(scope="module", params=usually(QUERY_PRESETS, *DISTINCT))
def of_two_layers(request: pytest.FixtureRequest) -> Detector:
    """A model of each preset; making one takes as long as running it."""
    return _small(request.param, decoder_layers=2)


def test_every_preset_predicts_for_all_queries(of_two_layers: Detector):
    """Logits for all classes, boxes in 0..1, one entry per decoder layer."""
    torch.manual_seed(0)
    model = of_two_layers.eval()
    with torch.no_grad():
        (group,) = model(Batch.from_images([torch.randn(3, 64, 96)] * 2))
    layers = 1 if model.card.preset == "detr_demo" else 2
    assert group.name == "main"
    assert group.predictions.logits.shape == (layers, 2, 6, model.class_loss.num_logits(2))
    assert group.predictions.cxcywh.shape == (layers, 2, 6, 4)
    assert 0 <= group.predictions.cxcywh.min() <= group.predictions.cxcywh.max() <= 1


def test_every_parameter_has_a_gradient_without_any_target(of_two_layers: Detector):
    """mmdet #2153: find_unused_parameters is never needed, with padding too."""
    torch.manual_seed(0)
    model = of_two_layers.train()
    model.zero_grad()
    nothing = [Target(torch.empty(0, dtype=torch.long), torch.empty(0, 4))] * 2
    groups = model(Batch.from_images([torch.randn(3, 64, 64), torch.randn(3, 40, 64)]), nothing)
    losses = Criterion(model.class_loss, MatchCosts(), LossWeights())(groups, nothing)
    losses.total.backward()
    assert losses.total.isfinite()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_predictions_do_not_depend_on_other_images_of_the_batch(norm: str):
    """detr #191, #217."""
    model = _small(norm=norm)
    images = [torch.randn(3, 64, 96) for _ in range(3)]
    with torch.no_grad():
        together = model(Batch.from_images(images))[0].predictions
        alone = [model(Batch.from_images([image]))[0].predictions for image in images]
    for index, single in enumerate(alone):
        assert torch.allclose(together.logits[:, index], single.logits[:, 0], atol=1e-5)
        assert torch.allclose(together.cxcywh[:, index], single.cxcywh[:, 0], atol=1e-5)


def test_a_batch_is_padded_with_zeros_and_marks_valid_pixels():
    batch = Batch.from_images([torch.ones(3, 4, 6), torch.ones(3, 5, 2)])
    assert batch.pixels.shape == (2, 3, 5, 6)
    assert batch.padded
    assert batch.valid.sum((1, 2)).tolist() == [24, 10]
    assert torch.equal(batch.pixels.sum(1), 3 * batch.valid.float())
    assert not Batch.from_images([torch.ones(3, 4, 6)] * 2).padded
    with pytest.raises(DataError, match="give a list of"):
        Batch.from_images([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_querys": 3}, "did you mean num_queries"),
        ({"dim": "wide"}, "must be of type int"),
        ({"num_queries": 0}, "too small"),
        ({"no_object_weight": 0.0}, "too small"),  # no image without objects has a loss then
        ({"num_queries": True}, "must be of type int"),
        ({"dropout": 1.0}, "below 1"),
        ({"norm": "batch"}, "post or pre"),
        ({"dim": 30, "heads": 4}, "multiple"),
    ],
)
def test_the_error_for_an_argument_names_it_and_the_fix(arguments: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        build(ModelCard("detr_r18_tiny", arguments, NAMES))


def test_the_error_for_an_unknown_model_suggests_the_nearest():
    with pytest.raises(ConfigError, match="detr_r5O: no such model; did you mean detr_r50"):
        build(ModelCard("detr_r5O", {}, NAMES))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_learned_mask_attends_as_the_fused_kernel_does(hidden: bool):
    """A mask with a gradient takes another way: outputs and all gradients are the same."""
    torch.manual_seed(0)
    attention = Attention(16, 4, dropout=0.0)
    bias = torch.randn(3, 4, 5, 5)
    if hidden:  # from all queries but themselves
        bias[..., 1] = bias[..., 1].masked_fill(~(torch.arange(5) == 1), float("-inf"))
    x = torch.randn(3, 5, 16, requires_grad=True)
    mask = bias.clone().requires_grad_()
    output = attention(x, x, x, mask)
    assert torch.allclose(output, attention(x, x, x, bias), atol=1e-6)
    weight = torch.randn_like(output)
    found = torch.autograd.grad((output * weight).sum(), (x, mask))
    q, k, v = (
        layer(x).view(3, 5, 4, 4).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    expected = (attention.out(heads.transpose(1, 2).flatten(2)) * weight).sum()
    for ours, theirs in zip(found, torch.autograd.grad(expected, (x, mask)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
