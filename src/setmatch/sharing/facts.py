"""What is known of a trained model beside its weights: its metrics, and its training data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from setmatch.errors import ConfigError, short
from setmatch.files.reading import read_text

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class ClassMetrics(_Plain):
    """AP of a class; None without boxes to find."""

    AP: Fraction | None = None
    AP50: Fraction | None = None
    boxes: Annotated[int, Field(ge=0)] = 0


class _Quality(_Plain):
    PQ: Fraction | None = None


class _ClassQuality(_Quality):
    tp: Annotated[int, Field(ge=0)] = 0
    fn: Annotated[int, Field(ge=0)] = 0


class _Panoptic(_Plain):
    all: _Quality
    per_class: dict[str, _ClassQuality] = {}


class _Masks(_Plain):
    AP: Fraction | None = None


@dataclass(frozen=True)
class ClassScore:
    """Scores of a class by their names, the main one first, and how many objects there were."""

    scores: Mapping[str, float | None]
    objects: int

    @property
    def main(self) -> tuple[str, float | None]:
        """The name and the value of the main score."""
        return next(iter(self.scores.items()))


class Metrics(_Plain):
    """The numbers of an evaluation, as `setmatch evaluate --json` and RUN/best have them."""

    AP: Fraction | None
    AP50: Fraction | None = None
    AP75: Fraction | None = None
    APs: Fraction | None = None
    APm: Fraction | None = None
    APl: Fraction | None = None
    masks: _Masks | None = None
    panoptic: _Panoptic | None = None
    per_class: dict[str, ClassMetrics] = {}
    step: int | None = None

    @property
    def by_class(self) -> dict[str, ClassScore]:
        """The scores of each class: PQ of a model that is measured by it, else AP."""
        if self.panoptic is not None and self.panoptic.per_class:
            return {
                name: ClassScore({"PQ": each.PQ}, each.tp + each.fn)
                for name, each in self.panoptic.per_class.items()
            }
        return {
            name: ClassScore({"AP": each.AP, "AP50": each.AP50}, each.boxes)
            for name, each in self.per_class.items()
        }

    def numbers(self) -> dict[str, float]:
        """Return the metrics that have a value, the main one first."""
        named = {
            "PQ": self.panoptic.all.PQ if self.panoptic else None,
            "mask AP": self.masks.AP if self.masks else None,
            "AP": self.AP,
            "AP50": self.AP50,
            "AP75": self.AP75,
            "AP small": self.APs,
            "AP medium": self.APm,
            "AP large": self.APl,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class DataCounts:
    """How many images, and objects of each class, a model was trained and measured on."""

    images: int
    objects: Mapping[str, int] = field(default_factory=dict)
    validation_images: int | None = None


def read_metrics(source: Mapping[str, Any] | str | Path) -> Metrics:
    """Return the metrics of an evaluation, or of its JSON file.

    Raises ConfigError for a file that cannot be read, and for what are not metrics.
    """
    tree, where = source, "metrics"
    if isinstance(source, str | Path):
        where = str(source)
        try:
            tree = json.loads(read_text(Path(source)))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: cannot be read as JSON ({short(str(error))})") from None
    try:
        return Metrics.model_validate(tree)
    except (ValidationError, RecursionError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else None
        entry = ".".join(map(str, problem["loc"])) if problem else ""
        raise ConfigError(
            f"{where}: no metrics as `setmatch evaluate --json` writes them "
            f"({entry or 'the file'}: {problem['msg'] if problem else 'too deep'})"
        ) from None


def read_data_counts(report: Path) -> DataCounts | None:
    """Return what the data report of a run says; None where there is none that can be read."""
    try:
        splits = json.loads(read_text(report))["splits"]
        objects = splits["train"]["classes"]
        known = {str(name): int(count) for name, count in objects.items()}
        validation = splits.get("val", {}).get("images")
        return DataCounts(int(splits["train"]["images"]), known, validation)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
