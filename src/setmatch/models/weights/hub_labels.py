"""The names of classes in config.json of transformers' layout."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.structures.metadata import Categories


def named_categories(
    num_classes: int, config: Mapping[str, Any], folder: Path, notes: list[str]
) -> Categories:
    """Return the classes of a model, named by `id2label` in its config.json.

    Names of classes that the model does not have, and classes without a name, are noted. Raises
    WeightsError for labels that are no class indices with names.
    """
    labels = _labels(config, folder)
    beyond = sorted(class_index for class_index in labels if class_index >= num_classes)
    if beyond:
        shown = ", ".join(f"{index}: {short(labels[index])}" for index in beyond[:8])
        notes.append(
            f"config.json names classes that the model cannot predict, as it has {num_classes} "
            f"(0 to {num_classes - 1}): {shown}{', ...' if len(beyond) > 8 else ''}; these names "
            "are left out. If its numbers are no class indices, but count from 1 or have gaps, "
            "pass categories= to name the classes"
        )
    unnamed = [index for index in range(num_classes) if index not in labels]
    if unnamed:
        shown = ", ".join(map(str, unnamed[:8]))
        more = ", ..." if len(unnamed) > 8 else ""
        notes.append(f"{len(unnamed)} of {num_classes} classes have no name: {shown}{more}")
    names = tuple(None if labels.get(i) in (None, "N/A") else labels[i] for i in range(num_classes))
    return Categories(tuple(range(num_classes)), names)


def _labels(config: Mapping[str, Any], folder: Path) -> dict[int, str]:
    """Return the names that config.json gives to classes, by class index."""
    named = config.get("id2label") or {}
    if not isinstance(named, Mapping):
        raise WeightsError(f"{folder}: id2label in config.json is no object: {short(named)}")
    for number, name in named.items():
        if not re.fullmatch(r"[0-9]{1,9}", str(number)) or not isinstance(name, str):
            raise WeightsError(
                f"{folder}: id2label in config.json has {short(number)}: {short(name)}; it should "
                "be a class index and a name"
            )
    return {int(number): name for number, name in named.items()}
