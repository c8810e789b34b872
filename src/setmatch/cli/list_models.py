"""`setmatch models`: list the presets and the example weights."""

import inspect


def models() -> None:
    """List the model presets and the example weights that come with setmatch."""
    from setmatch.models.load import bundled, read
    from setmatch.models.registry import MODELS

    for name, preset in MODELS.items():
        print(f"{name:22} {inspect.getdoc(preset)}")
    for name in bundled():
        card = read(name).card
        classes = ", ".join(map(str, card.categories.names))
        print(f"{name:22} Example weights: {card.source}; detects {classes}.")
