"""The model card next to every weights file: how to build the model, its classes, its source."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError
from setmatch.reading import read_text
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

FORMAT = "setmatch-1"


def card_to_json(card: ModelCard, sha256: str) -> str:
    """Return the card as JSON, with the SHA-256 of its weights file."""
    known = card.categories
    categories = [
        {"class_index": class_index, "id": known.ids[class_index], "name": known.names[class_index]}
        | ({"stuff": True} if class_index in known.stuff else {})
        for class_index in range(len(known))
    ]
    tree = {
        "format": FORMAT,
        "preset": card.preset,
        "arguments": dict(card.arguments),
        "categories": categories,
        "preprocessing": dataclasses.asdict(card.preprocessing),
        "license": card.license,
        "source": card.source,
        "sha256": sha256,
    }
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def card_from_json(path: Path) -> tuple[ModelCard, str]:
    """Return a card and the SHA-256 of its weights file.

    Raises WeightsError with the path for a damaged card or an unknown format.
    """
    try:
        tree: dict[str, Any] = json.loads(read_text(path))
        if tree["format"] != FORMAT:
            raise WeightsError(
                f"{path}: format {tree['format']!r} is not {FORMAT!r}; use a newer setmatch"
            )
        classes = sorted(tree["categories"], key=lambda each: each["class_index"])
        return (
            ModelCard(
                tree["preset"],
                tree["arguments"],
                Categories(
                    tuple(s["id"] for s in classes),
                    tuple(s["name"] for s in classes),
                    frozenset(i for i, s in enumerate(classes) if s.get("stuff", False)),
                ),
                _preprocessing(tree["preprocessing"]),
                tree["license"],
                tree["source"],
            ),
            tree["sha256"],
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(
            f"{path}: damaged model card ({type(error).__name__}: {error}); "
            "copy it again from where the weights came from"
        ) from None


def _preprocessing(tree: dict[str, Any]) -> Preprocessing:
    red, green, blue = tree["mean"]
    std_red, std_green, std_blue = tree["std"]
    return Preprocessing(
        tree["short_side_px"],
        tree["long_side_px"],
        (red, green, blue),
        (std_red, std_green, std_blue),
    )
