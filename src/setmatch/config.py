"""A recipe: every setting of a run, typed and frozen; strict YAML in, dotted overrides on top."""

import copy
import difflib
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)

from setmatch.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"
LEAST_SIDE_PX = 64  # of the pictures that a model learns from


def _number(value: object) -> object:
    """Read '1e-4' as a number: YAML 1.1 takes it for a string."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _argument(value: object) -> object:
    """Let one argument of a preset through: a plain value, and a finite one."""
    value = _number(value)
    plain = isinstance(value, bool | int | float | str)
    if not plain or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("expected a number, true, false or a word")
    return value


def _whole_or_auto(value: object) -> int | str:
    """Let a whole number through, or the word that leaves it to the data or the machine."""
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError("expected a whole number, or auto")
    return value


def _legible(side_px: int | str) -> int | str:
    """Let the side of a picture through that is more than one cell of the coarsest features."""
    if isinstance(side_px, int) and side_px < LEAST_SIDE_PX:
        raise ValueError(
            f"the coarsest features have a cell for 32 pixels, and one cell shows nothing; take "
            f"{LEAST_SIDE_PX} or more (smaller pictures are enlarged to it)"
        )
    return side_px


def _not_negative(count: int | str) -> int | str:
    if isinstance(count, int) and count < 0:
        raise ValueError("expected 0 or more, or auto")
    return count


def _positive(count: int | str) -> int | str:
    if isinstance(count, int) and count < 1:
        raise ValueError("expected 1 or more, or auto")
    return count


def _num_queries(count: object) -> int | str | None:
    """Let a positive whole number through, `auto`, or nothing."""
    return None if count is None else _positive(_whole_or_auto(count))


Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
NotNegative = Annotated[Real, Field(ge=0)]
Positive = Annotated[Real, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
WholeOrAuto = Annotated[int | Literal["auto"], PlainValidator(_whole_or_auto)]
SidePx = Annotated[WholeOrAuto, AfterValidator(_legible)]
Workers = Annotated[WholeOrAuto, AfterValidator(_not_negative)]
AtOnce = Annotated[WholeOrAuto, AfterValidator(_positive)]
NumQueries = Annotated[int | Literal["auto"] | None, PlainValidator(_num_queries)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Argument = Annotated[bool | int | float | str, PlainValidator(_argument)]


class Section(BaseModel):
    """A part of a recipe: strict types, no unknown keys, never changed after it is read."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ModelSettings(Section):
    """Which model, and the preset's arguments besides the number of classes."""

    preset: str = "detr_r50"
    arguments: dict[str, Argument] = {}
    # auto: as many as the fullest images ask for; null: the preset's own, or that of `arguments`
    num_queries: NumQueries = None
    init_weights: str | None = None  # weights to start from where --weights names none


class DataSettings(Section):
    """How images become batches."""

    augment: Literal["detr", "small", "flip", "none"] = "detr"
    # Images are only mirrored until this epoch.
    strong_augment_from_epoch: int = Field(default=0, ge=0)
    short_side_px: SidePx = 800  # "auto": as large as the objects of the training split ask for
    long_side_px: SidePx = 1333
    things_only: bool = False  # leave out stuff: instance segmentation of panoptic data
    workers: Workers = "auto"  # processes that read images
    # Training images that cannot be read: left out, named and counted, up to 1% of all; or the end.
    on_bad_image: Literal["skip", "stop"] = "skip"


class MatchCosts(Section):
    """Weights of the matching cost: -class p + l1 L1 - giou GIoU (arXiv 2005.12872, eq. 1)."""

    class_: NotNegative = Field(default=1.0, alias="class")
    l1: NotNegative = 5.0
    giou: NotNegative = 2.0

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)


class LossWeights(Section):
    """Weights of the loss terms, alike for every decoder layer; masks are of the last alone."""

    class_: NotNegative = Field(default=1.0, alias="class")
    l1: NotNegative = 5.0
    giou: NotNegative = 2.0
    mask: NotNegative = 1.0
    dice: NotNegative = 1.0
    auxiliary: bool = True

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)


class TrainSettings(Section):
    """The published optimization; `batch_size` is images per optimizer step, over all processes."""

    epochs: Count = 300
    minutes: NotNegative = 0.0  # above 0 the clock ends the run, whatever `epochs` says
    batch_size: Count = 16
    micro_batch: AtOnce = 2  # images a process takes through the model; auto: as the device likes
    lr: Positive = 1e-4
    backbone_lr: NotNegative = 1e-5
    muon_lr: NotNegative = 0.0  # of hidden matrices, where a model tells them apart; 0: AdamW
    weight_decay: NotNegative = 1e-4
    clip_norm: Positive = 0.1
    schedule: Literal["drop", "cosine"] = "drop"
    drop_epoch: Count = 200
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    # Images start at half their size and reach their full size at this fraction of the run.
    full_size_at: Fraction = 0.0
    ema_decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0  # 0 keeps no average
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 42
    evaluate_every: Count = 1  # epochs
    checkpoint_every: Count = 500  # steps; the end of an epoch always keeps one
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    log_every: Count = 10  # steps
    nonfinite_limit: Count = 10  # steps in a row without a finite loss before the run stops
    train_only: Literal["all", "masks"] = "all"  # "masks": the mask head alone, the detector frozen


class Recipe(Section):
    """Every setting of a run. The defaults are the published recipe of DETR.

    `box_stage` are the settings of a stage before, in which the detector learns without its mask
    head.
    """

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    matching: MatchCosts = MatchCosts()
    loss: LossWeights = LossWeights()
    box_stage: TrainSettings | None = None
    train: TrainSettings = TrainSettings()


def load_recipe(
    source: str | Path | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Recipe:
    """Read a recipe: a file, the name of one in recipes/, or a mapping; then apply `key=value`.

    Keys that are left out keep their defaults; `overrides` are dotted ("train.lr=1e-4").
    Raises ConfigError with the key, the value and the nearest known name.
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
    """Return the complete recipe as YAML that `load_recipe` reads back to an equal recipe."""
    # A section without a line would be read as one with defaults.
    return yaml.safe_dump(recipe.model_dump(by_alias=True, exclude_none=True), sort_keys=False)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that stands twice: the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of `node`; raises yaml.YAMLError for a key that stands twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, (key, (node_of_key, _)) in enumerate(zip(keys, node.value, strict=True)):
            if key in keys[:index]:
                raise yaml.MarkedYAMLError(
                    problem=f"{key!r} stands twice", problem_mark=node_of_key.start_mark
                )
        return super().construct_mapping(node, deep)


def _parse(text: str) -> Any:
    """Read YAML; every way in which that fails is a yaml.YAMLError."""
    loader = _StrictLoader(text)
    try:
        return loader.get_single_data()
    except (ValueError, RecursionError) as error:  # no such date; nested a thousand deep
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _read(source: str | Path | Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    if source is None:
        return {}, "the default recipe"
    if isinstance(source, Mapping):
        return copy.deepcopy(dict(source)), "the recipe"
    path = RECIPES / f"{source}.yaml" if source in recipe_names() else Path(source)
    try:
        tree = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(recipe_names())
        raise ConfigError(f"recipe {source}: no such file; recipes by name: {known}") from None
    except OSError as error:
        raise ConfigError(f"recipe {path}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"recipe {path}: cannot be read as YAML: {_one_line(error)}") from None
    if tree is None:
        return {}, f"recipe {path}"
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"recipe {path}: expected sections such as 'train:', got {_brief(tree)}")
    # A section whose every line is commented out is None to YAML.
    return {key: {} if value is None else value for key, value in tree.items()}, f"recipe {path}"


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {override}: expected section.key=value, such as train.lr=1e-4")
    try:
        value = _parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: {_one_line(error)}") from None
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
        known = _keys_beside(first["loc"])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{origin}: unknown key {key}; {hint}"
    complaint = first["msg"].removeprefix("Value error, ")
    return f"{origin}: {key} = {_brief(first['input'])}: {complaint}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in location[:-1]:
        kind = section.model_fields[str(part)].annotation
        (section,) = [each for each in get_args(kind) or (kind,) if each is not type(None)]
    return [field.alias or name for name, field in section.model_fields.items()]


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
