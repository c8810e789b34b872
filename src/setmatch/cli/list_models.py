"""`setmatch models`: list the presets and the example weights."""


def models() -> None:
    """List the models: presets to train, and weights to load.

    The second column says whether a model has trained weights. Published weights are downloaded on
    first use; bundled ones come with setmatch. predict and evaluate take these names. Models
    without weights must be trained first.
    """
    from setmatch.models.listing import available_models

    listed = available_models()
    width = max(len(model.name) for model in listed)
    for model in listed:
        print(f"{model.name:{width}} {model.weights or '–':9} {model.description}")
