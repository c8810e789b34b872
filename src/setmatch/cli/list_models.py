"""`setmatch models`: list the presets and the example weights."""


def models() -> None:
    """List the models: presets to train, and weights to load.

    The second column says where a model has trained weights: published ones are downloaded on first
    use, bundled ones come with setmatch. Only these names can be given to predict and evaluate; the
    others are trained first.
    """
    from setmatch.models.listing import available_models

    for model in available_models():
        print(f"{model.name:22} {model.weights or '–':10} {model.description}")
