"""What can be built or loaded by name is listed."""

import setmatch
from setmatch.models.load import bundled
from setmatch.models.registry import MODELS, find_preset


def test_every_preset_and_every_example_is_listed_with_a_sentence():
    listed = setmatch.models.available_models()
    assert [model.name for model in listed] == [*MODELS, *bundled()]
    assert all(model.description.endswith(".") for model in listed)


def test_what_is_listed_as_trained_is_loaded_without_a_download():
    for model in setmatch.models.available_models():
        if model.is_trained:
            assert not setmatch.load(model.name).training
        else:
            assert find_preset(model.name) is MODELS[model.name]
