"""The paper's ablations change what their names say, and nothing else."""

import pytest
import torch

from setmatch.errors import ConfigError, WeightsError
from setmatch.models.detector import Detector
from setmatch.models.load import convert_weights, save
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard

PETS = Categories((3, 7), ("cat", "dog"))


def nano(**arguments: object) -> Detector:
    """The smallest model, with random weights from one seed."""
    torch.manual_seed(0)
    return build(ModelCard("detr_nano", arguments, PETS)).eval()


def boxes(model: Detector, image: torch.Tensor) -> torch.Tensor:
    """The boxes of the last layer."""
    with torch.no_grad():
        return model(Batch.from_images([image]))[0].predictions.cxcywh[-1, 0]


def mirrored_tokens(model: Detector) -> tuple[torch.Tensor, torch.Tensor]:
    """The memory of a feature map, and that of its mirror image, mirrored back."""
    torch.manual_seed(1)
    features = torch.randn(1, 64, 4, 6)
    cells = torch.ones(1, 4, 6, dtype=torch.bool)
    memories = []
    with torch.no_grad():
        for seen in (features, features.flip(-1)):
            memory = model.encoder(*model.embed(seen, cells), None)
            memories.append(memory.transpose(1, 2).view(1, -1, 4, 6))
    return memories[0], memories[1].flip(-1)


@pytest.mark.parametrize(
    ("position", "symmetric"),
    [
        ("none", True),
        ("sine_in_decoder", True),
        ("sine_at_input", False),
        ("learned", False),
        ("sine", False),
    ],
)
def test_an_encoder_without_positions_is_mirror_symmetric(position: str, symmetric: bool):
    memory, mirrored = mirrored_tokens(nano(position=position))
    assert torch.allclose(memory, mirrored, atol=1e-5) == symmetric


def test_only_a_model_without_any_positions_predicts_the_same_for_a_mirror_image():
    """With sine in the decoder alone, the decoder still sees where things are."""
    torch.manual_seed(1)
    features = torch.randn(1, 64, 4, 6)
    cells = torch.ones(1, 4, 6, dtype=torch.bool)
    same = {}
    for position in ("none", "sine_in_decoder", "sine_at_input"):
        model = nano(position=position)
        outputs = []
        with torch.no_grad():
            for seen in (features, features.flip(-1)):
                tokens, position_encoding = model.embed(seen, cells)
                memory = model.encoder(tokens, position_encoding, None)
                outputs.append(
                    model.decoder(*model.queries(memory), memory, position_encoding, None)
                )
        same[position] = torch.allclose(outputs[0], outputs[1], atol=1e-5)
    assert same == {"none": True, "sine_in_decoder": False, "sine_at_input": False}


def test_without_feed_forward_networks_only_attention_is_left():
    """Their weights are gone, and all that are left have gradients."""
    whole, bare = nano(), nano(ffn="none")
    removed = {name for name, _ in whole.named_parameters()} - dict(bare.named_parameters()).keys()
    assert removed
    assert all(".ffn." in name or ".around_ffn." in name for name in removed)
    assert not any("ffn" in name for name in bare.state_dict())
    predictions = bare.train()(Batch.from_images([torch.randn(3, 64, 64)]))[0].predictions
    (predictions.logits.sum() + predictions.cxcywh.sum()).backward()
    assert all(parameter.grad is not None for parameter in bare.parameters())


def test_the_no_object_weight_changes_the_loss_only():
    assert nano(no_object_weight=0.4).class_loss.no_object_weight == 0.4
    image = torch.randn(3, 64, 64)
    assert torch.equal(boxes(nano(no_object_weight=0.4), image), boxes(nano(), image))


def test_muon_gets_the_matrices_between_hidden_features():
    """Not the first convolution, embeddings and last layers of the heads."""
    model = nano()
    groups = model.parameter_groups()
    assert groups.keys() == {"matrices", "rest"}
    assert all(parameter.ndim >= 2 for parameter in groups["matrices"])
    rest = {id(parameter) for parameter in groups["rest"]}
    first = model.backbone.layers[0][0].weight
    last = (model.class_head.weight, model.box_head.layers[-1].weight)
    assert {id(p) for p in (first, *last, model.queries.embedding.weight)} <= rest
    assert len(rest) + len(groups["matrices"]) == len(list(model.parameters()))


def test_ablations_are_saved_in_our_layout_only(tmp_path):
    """The published layouts do not have them."""
    for arguments in ({"position": "none"}, {"ffn": "none"}):
        folder = tmp_path / "_".join(map(str, arguments))
        save(nano(**arguments), folder)
        with pytest.raises(WeightsError, match="save it in setmatch's layout"):
            convert_weights(folder, tmp_path / "model.pth", "original")
        convert_weights(folder, tmp_path / f"again_{folder.name}", "setmatch")
    for layout in ("original", "transformers"):
        with pytest.raises(
            WeightsError, match=r"setmatch_n: .*(cannot build|does not have) this model"
        ):
            convert_weights("scenes_n", tmp_path / layout, layout)
    with pytest.raises(ConfigError, match="sine_in_decoder"):
        nano(position="sine in decoder")
