"""The model card next to every weights file: how to build the model, its classes, its source."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from setmatch.errors import WeightsError, short
from setmatch.files.reading import read_text
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

WEIGHTS, CARD = "model.safetensors", "model.json"
BUNDLED = Path(__file__).parents[2] / "weights"  # the example weights that come with setmatch
FORMAT = "setmatch-1"
MOST_PX = 65_536  # of a side of a resized image
MOST_ID = 2**63 - 1  # ids become tensors of int64
MOST_CHARACTERS = 500  # of the name of a preset, "package.module:factory"


def card_to_json(card: ModelCard, sha256: str) -> str:
    """Return the card as JSON, with the SHA-256 of its weights file."""
    return json.dumps(card_to_tree(card, sha256), indent=2, ensure_ascii=False) + "\n"


def card_to_tree(card: ModelCard, sha256: str) -> dict[str, Any]:
    """Return the values of `card_to_json`, as JSON has them."""
    known = card.categories
    categories = [
        {"class_index": class_index, "id": known.ids[class_index], "name": known.names[class_index]}
        | ({"stuff": True} if class_index in known.stuff else {})
        for class_index in range(len(known))
    ]
    preprocessing = dataclasses.asdict(card.preprocessing)
    del preprocessing["resizes"]  # of a model, images always are
    if card.preprocessing.size_px is None:
        del preprocessing["size_px"]
    return {
        "format": FORMAT,
        "preset": card.preset,
        "arguments": dict(card.arguments),
        "categories": categories,
        "preprocessing": preprocessing,
        "license": card.license,
        "source": card.source,
        "thresholds": dict(card.thresholds),
        "sha256": sha256,
    }


def is_card(path: Path) -> bool:
    """Return whether a file is a card of any version, and not some other program's model.json."""
    try:
        tree = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(tree, dict) and str(tree.get("format")).startswith("setmatch-")


def card_from_json(path: Path) -> tuple[ModelCard, str]:
    """Return a card and the SHA-256 of its weights file.

    Raises WeightsError with the path and the entry for a card that is damaged, has values that no
    model can have, or has an unknown format.
    """
    try:
        tree = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {short(str(error), 200)}") from None
    return card_from_tree(tree, path)


def card_from_tree(tree: Any, path: str | Path) -> tuple[ModelCard, str]:
    """Return the card that JSON values describe; `path` is the file that they are from.

    Raises WeightsError as `card_from_json` does.
    """
    if isinstance(tree, dict) and tree.get("format", FORMAT) != FORMAT:
        raise WeightsError(
            f"{path}: format {short(tree['format'])} is not {FORMAT!r}; use a newer setmatch"
        )
    try:
        card = _Card.model_validate(tree)
    except ValidationError as error:
        raise _damaged(path, _first_problem(error)) from None
    except RecursionError as error:
        raise _damaged(path, f"{type(error).__name__}: {short(str(error), 200)}") from None
    classes = sorted(card.categories, key=lambda each: each.class_index)
    if [each.class_index for each in classes] != list(range(len(classes))):
        raise _damaged(path, "categories: class_index counts from 0, each number once")
    if len({each.id for each in classes}) < len(classes):
        raise _damaged(path, "categories: two classes have the same id")
    categories = Categories(
        tuple(each.id for each in classes),
        tuple(each.name for each in classes),
        frozenset(each.class_index for each in classes if each.stuff),
    )
    preprocessing = _to_preprocessing(card.preprocessing)
    return (
        ModelCard(
            card.preset,
            card.arguments,
            categories,
            preprocessing,
            card.license,
            card.source,
            card.thresholds,
        ),
        card.sha256,
    )


def read_preprocessing(values: Mapping[str, Any], where: str) -> Preprocessing:
    """Return the preprocessing with the given fields, after checking their types and ranges.

    Raises WeightsError with `where` and the field.
    """
    try:
        return _to_preprocessing(_Preprocessing.model_validate(dict(values)))
    except ValidationError as error:
        raise WeightsError(f"{where}: {_first_problem(error)}") from None


Side = Annotated[int, Field(ge=1, le=MOST_PX)]
Mean = Annotated[float, Field(ge=-1, le=1)]
Std = Annotated[float, Field(ge=0.001, le=1000)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class _Class(_Strict):
    class_index: Annotated[int, Field(ge=0)]
    id: Annotated[int, Field(ge=-MOST_ID, le=MOST_ID)]
    name: str | None
    stuff: bool = False


class _Preprocessing(_Strict):
    short_side_px: Side
    long_side_px: Side
    mean: Annotated[list[Mean], Field(min_length=3, max_length=3)]
    std: Annotated[list[Std], Field(min_length=3, max_length=3)]
    size_px: Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None


class _Card(_Strict):
    format: str
    preset: Annotated[str, Field(max_length=MOST_CHARACTERS)]
    arguments: dict[str, Any]
    categories: Annotated[list[_Class], Field(min_length=1)]
    preprocessing: _Preprocessing
    license: str
    source: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}


def _to_preprocessing(checked: _Preprocessing) -> Preprocessing:
    red, green, blue = checked.mean
    std_red, std_green, std_blue = checked.std
    return Preprocessing(
        checked.short_side_px,
        checked.long_side_px,
        (red, green, blue),
        (std_red, std_green, std_blue),
        None if checked.size_px is None else (checked.size_px[0], checked.size_px[1]),
    )


def _first_problem(error: ValidationError) -> str:
    """Return the entry that is wrong, its value, and what it should be."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part)[:60] for part in first["loc"]) or "the card"
    given = "" if first["type"] == "missing" else f" = {short(first['input'])}"
    return f"{where}{given}: {first['msg']}"


def _damaged(path: str | Path, problem: str) -> WeightsError:
    return WeightsError(
        f"{path}: damaged model card ({problem}); copy it again from where the weights came from"
    )
