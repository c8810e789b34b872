"""Which weights Muon trains, by name: renaming a layer must not change that."""

import pytest

from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard

NOT_FOR_MUON = {
    "backbone.stem.0.0",
    "queries.class_head",
    "queries.box_step.last",
    "denoising.embedding",
    *(f"decoder.class_heads.{layer}" for layer in range(2)),
    *(f"decoder.box_steps.{layer}.last" for layer in range(2)),
    *(f"decoder.layers.{layer}.relations.last" for layer in range(2)),
    *(f"decoder.layers.{layer}.cross_attention.offsets" for layer in range(2)),
}


@pytest.mark.parametrize(
    ("preset", "more"),
    [
        ("setmatch_n", set()),
        ("setmatch_n_panoptic", {"mask_head.pixel.last", "mask_head.query.last"}),
    ],
)
def test_muon_gets_only_the_matrices_between_hidden_features(preset: str, more: set[str]):
    """First convolution, heads, embeddings, sampling offsets and biases are trained by AdamW."""
    model = build(ModelCard(preset, {}, Categories((0, 1), ("a", "b"))))
    groups = model.parameter_groups()
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    rest = {name_of[id(parameter)] for parameter in groups["rest"] if parameter.ndim >= 2}
    assert rest == {f"{name}.weight" for name in NOT_FOR_MUON | more}
    assert all(parameter.ndim >= 2 for parameter in groups["matrices"])
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(name_of)
