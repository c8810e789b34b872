"""What can be built or loaded by name is listed."""

import pytest

import setmatch
from setmatch.errors import WeightsError
from setmatch.models.load import bundled
from setmatch.models.registry import MODELS, PUBLISHED, find_preset


def test_every_preset_and_every_example_is_listed_with_a_sentence():
    listed = setmatch.models.available_models()
    assert [model.name for model in listed] == [*MODELS, *bundled()]
    assert all(model.description.endswith(".") for model in listed)


def test_weights_are_listed_where_there_are_some():
    """Bundled ones are loaded without a download; a preset without any is refused by name."""
    for model in setmatch.models.available_models():
        if model.weights == "bundled":
            assert not setmatch.load(model.name).training
            continue
        assert find_preset(model.name) is MODELS[model.name]
        assert (model.weights == "published") == (model.name in PUBLISHED)
        if model.weights is None:
            with pytest.raises(WeightsError, match="no weights are published under this name"):
                setmatch.load(model.name)
