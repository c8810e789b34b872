"""`setmatch models`: list the presets and the bundled weights."""

import inspect


def models() -> None:
    """List the models that can be built, and the trained examples that come along, a line each."""
    from setmatch.models.load import bundled, read
    from setmatch.models.registry import MODELS

    for name, preset in MODELS.items():
        print(f"{name:22} {inspect.getdoc(preset)}")
    for name in bundled():
        card = read(name).card
        classes = ", ".join(str(known) for known in card.categories.names)
        print(f"{name:22} Example weights: {card.source}; finds {classes}.")
