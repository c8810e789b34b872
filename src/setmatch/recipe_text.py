"""Recipes as text: read from strict YAML with overrides, known by name, and written."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from setmatch.argument_types import checked
from setmatch.config import Recipe
from setmatch.errors import ConfigError, short, suggest
from setmatch.files.reading import read_text
from setmatch.files.safe_yaml import YamlError, parse_yaml

RECIPES = Path(__file__).parent / "recipes"


@checked
def load_recipe(
    source: str | Path | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Recipe:
    """Read a recipe from a YAML file, the name of a bundled recipe, or a mapping.

    Missing keys have their defaults. `overrides` are applied last, as "section.key=value", such as
    "train.lr=1e-4". Raises ConfigError that names the key, its value and the closest known key.
    """
    tree, origin = _read(source)
    for override in overrides:
        _apply(tree, override)
        origin = f"{origin} with --set" if "--set" not in origin else origin
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, origin)) from None


def dump_recipe(recipe: Recipe) -> str:
    """Return the complete recipe as YAML. `load_recipe` reads it back to an equal recipe."""
    # None is left out: `box_stage: null` would be read as a section of defaults.
    return yaml.safe_dump(recipe.model_dump(by_alias=True, exclude_none=True), sort_keys=False)


def recipe_names() -> list[str]:
    """Return the names of the bundled recipes; those of published trainings are in a folder."""
    paths = (path.relative_to(RECIPES).with_suffix("") for path in RECIPES.rglob("*.yaml"))
    return sorted(path.as_posix() for path in paths)


def _read(source: str | Path | Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    if source is None:
        return {}, "the default recipe"
    if isinstance(source, Mapping):
        return copy.deepcopy(dict(source)), "the recipe"
    path = RECIPES / f"{source}.yaml" if source in recipe_names() else Path(source)
    try:
        tree = parse_yaml(read_text(path), unique_keys=True)
    except FileNotFoundError:
        known = "bundled recipes are called like models (see `setmatch models`), finetune, ablation"
        hint = suggest(str(source), recipe_names(), known)
        raise ConfigError(f"recipe {source}: no such file; {hint}") from None
    except OSError as error:
        raise ConfigError(f"recipe {path}: {error.strerror}") from None
    except (ValueError, YamlError) as error:
        raise ConfigError(f"recipe {path}: not valid YAML: {error}") from None
    if tree is None:
        return {}, f"recipe {path}"
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(
            f"recipe {path}: expected sections such as 'train:', got {short(tree, 80)}"
        )
    # YAML reads a section as None if all its lines are commented out.
    return {key: {} if value is None else value for key, value in tree.items()}, f"recipe {path}"


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {override}: expected section.key=value, such as train.lr=1e-4")
    try:
        value = parse_yaml(text, unique_keys=True)
    except YamlError as error:
        raise ConfigError(f"--set {override}: {error}") from None
    branch = tree
    for part in parts[:-1]:
        if not isinstance(branch.setdefault(part, {}), dict):
            raise ConfigError(f"--set {override}: {part} has no settings below it")
        branch = branch[part]
    branch[parts[-1]] = value


def _explain(error: ValidationError, origin: str) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        hint = suggest(name, _known_keys(first["loc"]), prefix=key.removesuffix(name))
        return f"{origin}: unknown key {key}; {hint}"
    problem = first["msg"].removeprefix("Value error, ")
    return f"{origin}: {key} = {short(first['input'], 80)}: {problem}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in location[:-1]:
        kind = section.model_fields[str(part)].annotation
        (section,) = [each for each in get_args(kind) or (kind,) if each is not type(None)]
    return _keys_of(section)


def _keys_of(section: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]
