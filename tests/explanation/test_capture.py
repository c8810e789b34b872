"""Recordings: exactly the attention that was paid, beside exactly the answers that were given."""

from collections.abc import Callable

import pytest
import torch
from known_models import BOXES, CELLS, NAMES, QUERIES, SEEN, mirrored, sampling, seeing
from torch import nn

from setmatch.errors import ConfigError, WeightsError
from setmatch.explanation.capture import (
    AttentionMaps,
    AttentionTrace,
    SamplingPoints,
    query_predictions,
    trace_attention,
)
from setmatch.losses.classification import Focal, Softmax
from setmatch.models.detector import Detector
from setmatch.models.detr.model import DETR
from setmatch.models.registry import build
from setmatch.postprocessing.detections import detections
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import ModelCard, Preprocessing

SMALL = {"dim": 32, "heads": 4, "ffn_dim": 16, "num_queries": 7}


def batch(height: int = 96, width: int = 160) -> Batch:
    torch.manual_seed(1)
    return Batch.from_images([torch.randn(3, height, width)])


def recorded(model: Detector) -> AttentionTrace:
    return trace_attention(model, batch())


@pytest.fixture(scope="module")
def seen() -> AttentionTrace:
    return recorded(seeing())


def test_a_query_is_shown_to_look_at_the_cell_it_looks_at(seen: AttentionTrace):
    """Weights set so that query q looks at cell c: the map of q is 1 at c, and 0 elsewhere."""
    assert isinstance(seen.cross_attention, AttentionMaps)
    assert seen.cross_attention.grid == (3, 5)
    expected = torch.eye(15)[list(CELLS)]
    torch.testing.assert_close(seen.cross_attention.weights[0, 0], expected, atol=1e-4, rtol=0)


def test_layers_are_not_mixed_up(seen: AttentionTrace):
    """The second layer, which looks everywhere alike, is shown to do so."""
    assert isinstance(seen.cross_attention, AttentionMaps)
    expected = torch.full((QUERIES, 15), 1 / 15)
    torch.testing.assert_close(seen.cross_attention.weights[1, 0], expected)


def test_a_place_is_shown_to_look_at_the_place_it_looks_at(seen: AttentionTrace):
    """Weights set so that every cell looks at its mirror image."""
    assert seen.encoder_grid == (3, 5)
    expected = torch.eye(15)[[mirrored(cell) for cell in range(15)]]
    torch.testing.assert_close(seen.encoder[0], expected, atol=1e-4, rtol=0)


def test_a_query_is_shown_to_listen_to_the_query_it_listens_to(seen: AttentionTrace):
    """Weights set so that every query listens to the next one, in both layers."""
    expected = torch.eye(QUERIES).roll(1, 1)
    torch.testing.assert_close(seen.self_attention, expected.expand(2, -1, -1), atol=1e-4, rtol=0)


def test_what_each_layer_answered_is_kept(seen: AttentionTrace):
    """Boxes, classes and scores of both layers, and nothing before the decoder."""
    assert seen.start is None
    for layer, believed in enumerate(seen.after):
        assert believed is not None
        torch.testing.assert_close(believed.cxcywh, BOXES[layer])
        assert believed.class_index.tolist() == [0, 1, 0, 1]


def test_sampling_points_are_shown_where_they_are():
    """Offsets and weights set by hand come back as places around the box a layer starts from."""
    seen = recorded(sampling())
    assert isinstance(seen.cross_attention, SamplingPoints)
    assert seen.start is not None
    assert seen.cross_attention.level.tolist() == [0, 0, 1, 1, 2, 2]
    before = (seen.start, seen.after[0])
    share = torch.arange(6.0).softmax(0).expand(2, 6, 6)
    for layer, believed in enumerate(before):
        assert believed is not None
        for head in range(2):
            right, up = torch.full((6,), (head + 1) / 4), -torch.arange(6.0) / 4
            offsets = torch.stack([right, up], dim=-1) * believed.cxcywh[:, None, 2:]
            places = seen.cross_attention.places[layer, head]
            torch.testing.assert_close(places, believed.cxcywh[:, None, :2] + offsets)
        torch.testing.assert_close(seen.cross_attention.weights[layer], share)


MODELS: dict[str, Callable[[], Detector]] = {
    "seeing": seeing,
    "blind": lambda: seeing(encoder_layers=0),
    "sampling": sampling,
    **{
        name: lambda name=name, more=more: build(ModelCard(name, {**SMALL, **more}, NAMES, SEEN))
        for name, more in {
            "detr_r18_tiny": {"norm": "pre", "decoder_layers": 2},
            "detr_demo": {"decoder_layers": 2, "encoder_layers": 2},
            "setmatch_n": {"denoising_queries": 4},
        }.items()
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_being_watched_changes_no_answer(name: str):
    """The answers are the plain model's to the bit, the mode is as before, and no hook stays."""
    torch.manual_seed(0)
    model = MODELS[name]()
    seen = recorded(model)
    assert model.training
    assert not any(part._forward_pre_hooks for part in model.modules())
    model.eval()
    with torch.inference_mode():
        plain = model(batch())[0].predictions
    assert torch.equal(plain.logits, seen.predictions.logits)
    assert torch.equal(plain.cxcywh, seen.predictions.cxcywh)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_paid_adds_up(name: str):
    """Attention is a share: every query and place gives away 1, in every model there is."""
    torch.manual_seed(0)
    seen = recorded(MODELS[name]())
    for weights in (seen.cross_attention.weights, seen.self_attention, seen.encoder):
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert len(seen.after) == len(seen.self_attention) == len(seen.cross_attention.weights)


def test_the_maps_are_those_that_mixed_the_values():
    """Mixing the values by the recorded weights gives what the cross-attention gave, by head."""
    torch.manual_seed(0)
    model = build(ModelCard("detr_r18_tiny", SMALL, NAMES, SEEN)).eval()
    assert isinstance(model, DETR)
    attention = list(model.decoder.get_submodule("layers").children())[1].cross_attention
    given: list[torch.Tensor] = []
    asked: list[torch.Tensor] = []
    attention.register_forward_hook(lambda _, arguments, answer: given.append(answer))
    attention.register_forward_pre_hook(lambda _, arguments: asked.append(arguments[2]))
    cross_attention = recorded(model).cross_attention
    with torch.inference_mode():
        values = attention.value(asked[0])[0].unflatten(-1, (4, 8)).transpose(0, 1)
        mixed = attention.out((cross_attention.weights[1] @ values).transpose(0, 1).flatten(1))
    torch.testing.assert_close(mixed, given[0][0])


def test_layers_that_are_not_trained_to_answer_have_no_answer():
    """Of the 50-line model only the last layer speaks."""
    torch.manual_seed(0)
    seen = recorded(MODELS["detr_demo"]())
    assert seen.after[0] is None
    assert seen.after[1] is not None


def test_an_encoder_without_layers_gives_no_maps():
    """No encoder layer, no map; the rest is there."""
    seen = recorded(seeing(encoder_layers=0))
    assert seen.encoder.shape == (0, 15, 15)
    assert seen.cross_attention.weights.shape[0] == 2


@pytest.mark.parametrize("class_loss", [Softmax(), Focal()])
def test_each_query_believes_in_its_own_best_class(class_loss: Softmax | Focal):
    """Also where the answers are the best pairs of query and class, some queries twice."""
    logits = torch.tensor([[5.0, 4.0, -9.0], [-2.0, -1.0, -3.0], [-9.0, 1.0, -9.0]])
    softly, singly = logits.softmax(-1), logits.sigmoid()
    believed = query_predictions(logits, torch.rand(3, 4), class_loss)
    assert believed.class_index.tolist() == [0, 1, 1]
    shares = softly if isinstance(class_loss, Softmax) else singly
    torch.testing.assert_close(believed.score, shares[range(3), [0, 1, 1]])


def test_a_model_without_attention_is_refused():
    """A detector that is no transformer of ours is named, and nothing is made up."""

    class Other(Detector):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.card = ModelCard("faster", {}, NAMES, Preprocessing())

    with pytest.raises(ConfigError, match="faster: not one of our detection transformers"):
        trace_attention(Other(), batch())


def test_diverged_weights_are_named():
    """Answers that are not finite are no answers."""
    model = sampling()
    model.decoder.class_heads[1].bias.data.fill_(float("nan"))
    with pytest.raises(WeightsError, match="diverged"):
        recorded(model)


def test_the_record_speaks_of_what_is_found():
    """The last layer's beliefs are the boxes and scores that predict gives."""
    model = seeing()
    seen = recorded(model)
    (found,) = detections(seen.predictions, model.class_loss, NAMES, [(1, 1)])
    assert seen.after[-1] is not None
    assert torch.equal(found.scores, seen.after[-1].score.sort(descending=True).values)
