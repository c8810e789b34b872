"""The card beside every weights file: what is needed to build the model and use its answers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError
from setmatch.structures.metadata import Card, Categories, Preprocessing

FORMAT = "setmatch-1"


def card_to_json(card: Card, sha256: str) -> str:
    """Return the card as JSON, with the SHA-256 of the weights file that it stands beside."""
    known = card.categories
    categories = [
        {"slot": slot, "id": known.ids[slot], "name": known.names[slot]}
        | ({"stuff": True} if slot in known.stuff else {})
        for slot in range(len(known))
    ]
    tree = {
        "format": FORMAT,
        "preset": card.preset,
        "arguments": dict(card.arguments),
        "categories": categories,
        "preprocessing": dataclasses.asdict(card.preprocessing),
        "licence": card.licence,
        "source": card.source,
        "sha256": sha256,
    }
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def card_from_json(path: Path) -> tuple[Card, str]:
    """Read a card and the SHA-256 that it promises.

    Raises WeightsError, naming the file, where it is not a whole card of a format known here.
    """
    try:
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if tree["format"] != FORMAT:
            raise WeightsError(
                f"{path}: format {tree['format']!r} is not {FORMAT!r}; use a newer setmatch"
            )
        slots = sorted(tree["categories"], key=lambda slot: slot["slot"])
        return (
            Card(
                tree["preset"],
                tree["arguments"],
                Categories(
                    tuple(s["id"] for s in slots),
                    tuple(s["name"] for s in slots),
                    frozenset(i for i, s in enumerate(slots) if s.get("stuff", False)),
                ),
                _preprocessing(tree["preprocessing"]),
                tree["licence"],
                tree["source"],
            ),
            tree["sha256"],
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(
            f"{path}: not a whole model card ({type(error).__name__}: {error}); "
            "copy it again from where the weights came"
        ) from None


def _preprocessing(tree: dict[str, Any]) -> Preprocessing:
    red, green, blue = tree["mean"]
    spread_red, spread_green, spread_blue = tree["std"]
    return Preprocessing(
        tree["short_side_px"],
        tree["long_side_px"],
        (red, green, blue),
        (spread_red, spread_green, spread_blue),
    )
