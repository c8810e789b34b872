"""Folders in transformers' layout: how all are written, and the names of their classes."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from setmatch.errors import WeightsError, short
from setmatch.files.reading import read_text
from setmatch.files.safe_yaml import YamlError, parse_yaml
from setmatch.models.weights.classes.objects365 import OBJECTS365
from setmatch.models.weights.layouts.key_map import State
from setmatch.models.weights.raw_checkpoint import CONFIG, SAFETENSORS
from setmatch.structures.metadata import Categories

PREPROCESSOR = "preprocessor_config.json"
README = "README.md"
LICENSES = {"apache-2.0": "Apache-2.0", "mit": "MIT"}  # as the hub writes them: as SPDX does


def write_hub_folder(
    folder: Path, config: Mapping[str, Any], processor: Mapping[str, Any], tensors: State
) -> None:
    """Write a new folder with the settings of the model, those of its images, and its tensors."""
    folder.mkdir()
    for name, settings in ((CONFIG, config), (PREPROCESSOR, processor)):
        (folder / name).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    save_file(contiguous, folder / SAFETENSORS, metadata={"format": "pt"})


def stated_license(folder: Path) -> str | None:
    """Return the license in the README.md of a hub repository; None if it states none.

    It stands in YAML between two lines of three dashes, at the beginning. A license that is called
    "other" is stated by its name, where it has one.
    """
    try:
        head = re.match(r"\s*---\r?\n(.*?)\r?\n---", read_text(folder / README), re.DOTALL)
        settings = parse_yaml(head[1]) if head else None
    except (OSError, ValueError, YamlError):
        return None
    if not isinstance(settings, dict):
        return None
    names = (settings.get("license"), settings.get("license_name"))
    stated = [name for name in names if isinstance(name, str)]
    if not stated:
        return None
    return LICENSES.get(stated[0].lower(), stated[-1] if stated[0] == "other" else stated[0])


def label_settings(categories: Categories) -> dict[str, Any]:
    """Return the settings that name the classes of a model; those without a name are "N/A".

    If none has a name, they are transformers' own placeholders.
    """
    unnamed = "N/A" if any(categories.names) else "LABEL_{}"
    names = {index: name or unnamed.format(index) for index, name in enumerate(categories.names)}
    return {
        "id2label": {str(index): name for index, name in names.items()},
        "label2id": {name: index for index, name in names.items()},
    }


def named_categories(
    num_classes: int, config: Mapping[str, Any], folder: Path, notes: list[str]
) -> Categories:
    """Return the classes of a model, named by `id2label` in its config.json.

    As many classes as Objects365 has, without names, are its. Names of classes that the model does
    not have, and classes without a name, are noted. Raises WeightsError for labels that are not
    class indices with names.
    """
    labels = {
        index: name
        for index, name in _labels(config, folder).items()
        if name != f"LABEL_{index}"  # transformers' own, where no name was given
    }
    if not labels and num_classes in OBJECTS365:
        return OBJECTS365[num_classes]
    beyond = sorted(class_index for class_index in labels if class_index >= num_classes)
    if beyond:
        shown = ", ".join(f"{index}: {short(labels[index])}" for index in beyond[:8])
        notes.append(
            f"config.json names classes that the model cannot predict, as it has {num_classes} "
            f"(0 to {num_classes - 1}): {shown}{', ...' if len(beyond) > 8 else ''}; these names "
            "are left out. If its numbers are not class indices, but count from 1 or have gaps, "
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
        raise WeightsError(f"{folder}: id2label in config.json is not an object: {short(named)}")
    for number, name in named.items():
        if not re.fullmatch(r"0|[1-9][0-9]{,8}", str(number)) or not isinstance(name, str):
            raise WeightsError(
                f"{folder}: id2label in config.json has {short(number)}: {short(name)}; it should "
                "be a class index and a name"
            )
    return {int(number): name for number, name in named.items()}
