"""What an exported file says of itself: the model card, and how its graph is to be used.

It is one JSON text, stored in the file's metadata under the name `KEY`. Nothing here needs torch.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from setmatch.errors import WeightsError, short
from setmatch.models.weights.card import card_from_tree, card_to_tree
from setmatch.structures.metadata import ModelCard

KEY = "setmatch"
FORMAT = "setmatch-export-1"


@dataclass(frozen=True)
class ExportedCard:
    """The model card of an exported file, and what else its predictions need.

    `sha256` is that of model.safetensors as `save` writes it. `class_loss` has the name and the
    settings of the classification loss, which decodes logits. An `end_to_end` graph takes one image
    of any size, others take a batch of preprocessed images. `made_with` are the versions.
    """

    card: ModelCard
    sha256: str
    class_loss: Mapping[str, Any]
    num_queries: int
    fixed_queries: bool
    has_masks: bool
    end_to_end: bool
    default_threshold: float
    made_with: Mapping[str, str | int]

    def to_json(self) -> str:
        """Return the text for the metadata of a file."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        model = card_to_tree(fields.pop("card"), fields.pop("sha256"))
        return json.dumps({"format": FORMAT, "model": model, **fields}, ensure_ascii=False)


def read_exported_card(text: str, where: str) -> ExportedCard:
    """Return the card in the metadata of the file `where`.

    Raises WeightsError for a card that is damaged or of a newer format.
    """
    try:
        tree = json.loads(text)
        if isinstance(tree, dict) and tree.get("format", FORMAT) != FORMAT:
            raise WeightsError(
                f"{where}: format {short(tree['format'])} is not {FORMAT!r}; use a newer setmatch"
            )
        values = _Exported.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        entry = ".".join(str(part)[:60] for part in first["loc"]) or "the card"
        raise _damaged(where, f"{entry}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(where, short(str(error), 200)) from None
    card, sha256 = card_from_tree(values.model, where)
    rest = {name: getattr(values, name) for name in _Exported.model_fields}
    del rest["format"], rest["model"]
    return ExportedCard(card, sha256, **rest)


def unknown_loss(settings: Mapping[str, Any], where: str) -> WeightsError:
    """Return the error for a file whose logits nothing here can decode."""
    return WeightsError(
        f"{where}: its classification loss {short(dict(settings))} is not known; use a newer "
        "setmatch"
    )


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(settings.get("name"), str):
        raise ValueError("it has no name")
    return settings


class _Exported(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    format: Literal["setmatch-export-1"]
    model: dict[str, Any]
    class_loss: Annotated[dict[str, Any], AfterValidator(_named)]
    num_queries: Annotated[int, Field(ge=1, le=1_000_000)]
    fixed_queries: bool
    has_masks: bool
    end_to_end: bool
    default_threshold: Annotated[float, Field(ge=0, le=1)]
    made_with: dict[str, str | int]


def _damaged(where: str, problem: str) -> WeightsError:
    return WeightsError(
        f"{where}: damaged model card in its metadata ({problem}); export the model again"
    )
