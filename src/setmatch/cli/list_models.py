"""`setmatch models`: list the presets and the example weights."""


def models() -> None:
    """List the model presets and the example weights that come with setmatch."""
    from setmatch.models.listing import available_models

    for model in available_models():
        print(f"{model.name:22} {model.description}")
