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
    """A section of a recipe: strict types, no unknown keys, immutable once read.

    The string below a field is its meaning; the reference pages are generated from it.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class ModelSettings(Section):
    """Which model to train, and the arguments of its preset."""

    preset: str = "detr_r50"
    """Preset to build; `setmatch models` lists them."""
    arguments: dict[str, Argument] = {}
    """Arguments of the preset besides the number of classes."""
    num_queries: NumQueries = None
    """Number of object queries. `auto` follows the fullest training images; null keeps the
    preset's own number, or the one in `arguments`."""
    init_weights: str | None = None
    """Weights to start from when `--weights` names none."""


class DataSettings(Section):
    """How images become batches."""

    augment: Literal["detr", "small", "flip", "none"] = "detr"
    """Augmentation: the published one of DETR, one for small data sets, flips only, or none."""
    strong_augment_from_epoch: int = Field(default=0, ge=0)
    """First epoch with the full augmentation; before it, images are only flipped."""
    short_side_px: SidePx = 800
    """Short side of an image in pixels. `auto` is as large as the objects of the training split
    need."""
    long_side_px: SidePx = 1333
    """Longest allowed long side in pixels, or `auto`."""
    things_only: bool = False
    """Leave out stuff classes: instance segmentation on panoptic data."""
    workers: Workers = "auto"
    """Processes that load images. `auto` follows the machine."""
    on_bad_image: Literal["skip", "stop"] = "skip"
    """What to do with a training image that cannot be read: `skip` leaves it out, names it and
    counts it, up to 1% of all images; `stop` ends the run."""


class MatchCosts(Section):
    """Weights of the matching cost: -class p + l1 L1 - giou GIoU (arXiv 2005.12872, eq. 1)."""

    class_: NotNegative = Field(default=1.0, alias="class")
    """Weight of the class probability."""
    l1: NotNegative = 5.0
    """Weight of the L1 distance of the boxes."""
    giou: NotNegative = 2.0
    """Weight of the generalized IoU (GIoU)."""


class LossWeights(Section):
    """Weights of the loss terms, equal for all decoder layers; only the last layer has masks."""

    class_: NotNegative = Field(default=1.0, alias="class")
    """Weight of the classification loss."""
    l1: NotNegative = 5.0
    """Weight of the L1 loss of the boxes."""
    giou: NotNegative = 2.0
    """Weight of the generalized IoU loss."""
    mask: NotNegative = 1.0
    """Weight of the focal loss of the masks."""
    dice: NotNegative = 1.0
    """Weight of the DICE loss of the masks."""
    auxiliary: bool = True
    """Train every decoder layer; false trains the last layer only."""


class TrainSettings(Section):
    """Optimization, schedule and bookkeeping; the defaults are the published recipe."""

    epochs: Count = 300
    """Passes over the training images."""
    minutes: NotNegative = 0.0
    """Time budget. Above 0, training ends after this time and ignores `epochs`."""
    batch_size: Count = 16
    """Images per optimizer step, summed over all processes."""
    micro_batch: AtOnce = 2
    """Images that a process takes through the model at once; gradients are accumulated up to
    `batch_size`. `auto` follows the device."""
    lr: Positive = 1e-4
    """Learning rate."""
    backbone_lr: NotNegative = 1e-5
    """Learning rate of the backbone; 0 leaves its weights unchanged."""
    muon_lr: NotNegative = 0.0
    """Learning rate of Muon for hidden matrices, in models that separate them; 0 uses AdamW for
    all parameters."""
    weight_decay: NotNegative = 1e-4
    """Decoupled weight decay."""
    clip_norm: Positive = 0.1
    """Largest allowed norm of the gradient."""
    schedule: Literal["drop", "cosine"] = "drop"
    """Learning-rate schedule: a drop to a tenth at `drop_epoch`, or a cosine to 0."""
    drop_epoch: Count = 200
    """Epoch of the drop."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up."""
    full_size_at: Fraction = 0.0
    """Progressive resizing: images start at half their sides and reach full size at this fraction
    of the run; 0 turns it off."""
    ema_decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average of the weights; 0 keeps no average."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numeric precision of the model. `auto` is bfloat16 where the hardware supports it."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Seed of all random numbers."""
    evaluate_every: Count = 1
    """Epochs between evaluations on the validation split."""
    checkpoint_every: Count = 500
    """Steps between checkpoints; the end of an epoch always saves one."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """Number of newest checkpoints to keep."""
    log_every: Count = 10
    """Steps between log lines."""
    nonfinite_limit: Count = 10
    """Steps in a row without a finite loss after which the run stops."""
    train_only: Literal["all", "masks"] = "all"
    """Part to train: `all`, or `masks` for the mask head with the detector frozen."""


class Recipe(Section):
    """Every setting of a run. The defaults are the published recipe of DETR."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    matching: MatchCosts = MatchCosts()
    loss: LossWeights = LossWeights()
    box_stage: TrainSettings | None = None
    """A stage before, in which the detector is trained without its mask head."""
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
