"""Attention traces: the weights the model used, and its unchanged predictions."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from known_models import (
    BOXES,
    CATEGORIES,
    CELLS,
    PREPROCESSING,
    QUERIES,
    SMALL_RTDETR,
    known_detr,
    known_setmatch,
    mirrored,
)
from setmatch.errors import ConfigError, WeightsError
from setmatch.inference.engines.eager import evaluation_copy
from setmatch.losses.classification import Focal, Softmax
from setmatch.models.detector import Detector
from setmatch.models.detr.model import DETR
from setmatch.models.registry import build
from setmatch.postprocessing.detections import detections
from setmatch.postprocessing.query_predictions import query_predictions
from setmatch.structures.attention import AttentionMaps, AttentionTrace, SamplingPoints
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import ModelCard, Preprocessing
from small_families import PRESETS, small_model

SMALL = {"dim": 32, "heads": 4, "ffn_dim": 16, "num_queries": 7}


def batch(height: int = 96, width: int = 160) -> Batch:
    torch.manual_seed(1)
    return Batch.from_images([torch.randn(3, height, width)])


def traced(model: Detector) -> AttentionTrace:
    with torch.inference_mode():
        return evaluation_copy(model).attention_trace(batch())


@pytest.fixture(scope="module")
def trace() -> AttentionTrace:
    return traced(known_detr())


def test_cross_attention_shows_the_cell_each_query_attends_to(trace: AttentionTrace):
    """Weights set by hand: the map of query q is 1 at cell CELLS[q] and 0 elsewhere."""
    assert isinstance(trace.cross_attention, AttentionMaps)
    assert trace.cross_attention.grid == (3, 5)
    expected = torch.eye(15)[list(CELLS)]
    torch.testing.assert_close(trace.cross_attention.weights[0, 0], expected, atol=1e-4, rtol=0)


def test_layers_are_in_order(trace: AttentionTrace):
    """The second layer attends to all cells equally."""
    assert isinstance(trace.cross_attention, AttentionMaps)
    expected = torch.full((QUERIES, 15), 1 / 15)
    torch.testing.assert_close(trace.cross_attention.weights[1, 0], expected)


def test_encoder_attention_shows_the_cell_each_cell_attends_to(trace: AttentionTrace):
    """Weights set by hand: every cell attends to its mirror image."""
    assert trace.encoder_grid == (3, 5)
    expected = torch.eye(15)[[mirrored(cell) for cell in range(15)]]
    torch.testing.assert_close(trace.encoder[0], expected, atol=1e-4, rtol=0)


def test_self_attention_shows_the_query_each_query_attends_to(trace: AttentionTrace):
    """Weights set by hand: every query attends to the next one, in both layers."""
    expected = torch.eye(QUERIES).roll(1, 1)
    torch.testing.assert_close(trace.self_attention, expected.expand(2, -1, -1), atol=1e-4, rtol=0)


def test_predictions_of_every_layer_are_in_the_trace(trace: AttentionTrace):
    """Boxes and classes of both layers, and none before the decoder."""
    assert trace.start is None
    for layer, predicted in enumerate(trace.after):
        assert predicted is not None
        torch.testing.assert_close(predicted.cxcywh, BOXES[layer])
        assert predicted.class_index.tolist() == [0, 1, 0, 1]


def test_sampling_points_are_relative_to_the_box_a_layer_starts_from():
    """Offsets and weights set by hand."""
    trace = traced(known_setmatch())
    assert isinstance(trace.cross_attention, SamplingPoints)
    assert trace.start is not None
    assert trace.cross_attention.level.tolist() == [0, 0, 1, 1, 2, 2]
    before = (trace.start, trace.after[0])
    share = torch.arange(6.0).softmax(0).expand(2, 6, 6)
    for layer, predicted in enumerate(before):
        assert predicted is not None
        for head in range(2):
            right, up = torch.full((6,), (head + 1) / 4), -torch.arange(6.0) / 4
            offsets = torch.stack([right, up], dim=-1) * predicted.cxcywh[:, None, 2:]
            places = trace.cross_attention.places[layer, head]
            torch.testing.assert_close(places, predicted.cxcywh[:, None, :2] + offsets)
        torch.testing.assert_close(trace.cross_attention.weights[layer], share)


VARIANTS = {  # of presets whose attention differs from that of their family's small model
    "detr_r18_tiny": {**SMALL, "norm": "pre", "decoder_layers": 2},
    "detr_demo": {**SMALL, "decoder_layers": 2, "encoder_layers": 2},
    "rtdetr_v2_r50_m": SMALL_RTDETR | {"decoder_layers": 3, "eval_layers": 2},
}
MODELS: dict[str, Callable[[], Detector]] = {
    "known_detr": known_detr,
    "no_encoder": lambda: known_detr(encoder_layers=0),
    "known_setmatch": known_setmatch,
    **{
        preset: partial(build, ModelCard(preset, arguments, CATEGORIES, PREPROCESSING))
        for preset, arguments in VARIANTS.items()
    },
    **{
        family: partial(small_model, family, CATEGORIES, PREPROCESSING)
        for family in PRESETS
        if family != "torchvision's baselines"  # which have no attention
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_tracing_changes_no_prediction_and_weights_sum_to_one(name: str):
    """Equal to the bit; the mode is restored, no hook is left, and weights sum to one."""
    torch.manual_seed(0)
    model = MODELS[name]()
    trace = traced(model)
    assert model.training
    assert not any(part._forward_pre_hooks for part in model.modules())
    model.eval()
    with torch.inference_mode():
        plain = model(batch())[0].predictions
    assert torch.equal(plain.logits, trace.predictions.logits)
    assert torch.equal(plain.cxcywh, trace.predictions.cxcywh)
    for weights in (trace.cross_attention.weights, trace.self_attention, trace.encoder):
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert len(trace.after) == len(trace.self_attention) == len(trace.cross_attention.weights)


def test_the_traced_weights_reproduce_the_attention_output():
    torch.manual_seed(0)
    model = build(ModelCard("detr_r18_tiny", SMALL, CATEGORIES, PREPROCESSING)).eval()
    assert isinstance(model, DETR)
    attention = list(model.decoder.get_submodule("layers").children())[1].cross_attention
    outputs: list[torch.Tensor] = []
    values_in: list[torch.Tensor] = []
    attention.register_forward_hook(lambda _, arguments, output: outputs.append(output))
    attention.register_forward_pre_hook(lambda _, arguments: values_in.append(arguments[2]))
    cross_attention = traced(model).cross_attention
    with torch.inference_mode():
        values = attention.value(values_in[0])[0].unflatten(-1, (4, 8)).transpose(0, 1)
        mixed = attention.out((cross_attention.weights[1] @ values).transpose(0, 1).flatten(1))
    torch.testing.assert_close(mixed, outputs[0][0])


def test_layers_without_auxiliary_loss_have_no_predictions():
    """The paper's demo predicts from its last layer only."""
    torch.manual_seed(0)
    trace = traced(MODELS["detr_demo"]())
    assert trace.after[0] is None
    assert trace.after[1] is not None


def test_an_encoder_without_layers_has_no_attention():
    trace = traced(known_detr(encoder_layers=0))
    assert trace.encoder.shape == (0, 15, 15)
    assert trace.cross_attention.weights.shape[0] == 2


@pytest.mark.parametrize("class_loss", [Softmax(), Focal()])
def test_each_query_predicts_its_own_best_class(class_loss: Softmax | Focal):
    """Even where detections are the best pairs of query and class."""
    logits = torch.tensor([[5.0, 4.0, -9.0], [-2.0, -1.0, -3.0], [-9.0, 1.0, -9.0]])
    softly, singly = logits.softmax(-1), logits.sigmoid()
    predicted = query_predictions(logits, torch.rand(3, 4), class_loss)
    assert predicted.class_index.tolist() == [0, 1, 1]
    shares = softly if isinstance(class_loss, Softmax) else singly
    torch.testing.assert_close(predicted.score, shares[range(3), [0, 1, 1]])


def test_a_model_without_attention_is_refused():

    class Other(Detector):
        def __init__(self) -> None:
            super().__init__()
            self.card = ModelCard("faster", {}, CATEGORIES, Preprocessing())

    with pytest.raises(ConfigError, match="faster: not a detection transformer"):
        Other().attention_trace(batch())


def test_diverged_weights_are_refused():
    model = known_setmatch()
    model.decoder.class_heads[1].bias.data.fill_(float("nan"))
    with pytest.raises(WeightsError, match="diverged"):
        traced(model)


def test_the_last_layer_of_a_trace_equals_the_detections():
    model = known_detr()
    trace = traced(model)
    (detected,) = detections(trace.predictions, model.class_loss, CATEGORIES, [(1, 1)])
    assert trace.after[-1] is not None
    assert torch.equal(detected.scores, trace.after[-1].score.sort(descending=True).values)
