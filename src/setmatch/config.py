"""Recipes: every setting of a run, typed and immutable.

The reference documentation of the settings is generated from the descriptions below.
"""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from setmatch.errors import ConfigError
from setmatch.setting_values import (
    Argument,
    Count,
    CountOrAuto,
    CountOrZero,
    Fraction,
    Freeze,
    NotNegative,
    NumQueries,
    Positive,
    Real,
    Side,
    SidePx,
    TileSide,
    Workers,
)


class Section(BaseModel):
    """A section of a recipe: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)


class ModelSettings(Section):
    """The model: a preset and its arguments."""

    preset: str = Field(
        default="detr_r50", description="Name of the preset, as `setmatch models` lists it."
    )
    arguments: dict[str, Argument] = Field(
        default={}, description="Arguments of the preset, such as `dim: 128`, by name."
    )
    num_queries: NumQueries = Field(
        default=None,
        description="Number of object queries. `auto` is 1.5 times the objects of the fullest "
        "training images; null leaves it to the preset or its arguments.",
    )
    init_weights: str | None = Field(
        default=None,
        description="Weights to start from if `--weights` is not given: a published name, a file, "
        "`imagenet` (backbone only) or `none`.",
    )


class DataSettings(Section):
    """How images are loaded, resized and augmented."""

    augment: Literal["detr", "small", "ssd", "ssd_any_size", "flip", "none"] = Field(
        default="detr",
        description="Augmentation. `detr` is the published one (flip, random resize and crop), "
        "`small` suits small data sets (flip, random zoom and color jitter), `ssd` is that of "
        "real-time detectors (colors, zooming out, a crop that keeps objects, flip), "
        "`ssd_any_size` the same at 3/4 to 5/4 of the size, `flip` mirrors only.",
    )
    strong_augment_from_epoch: CountOrZero = Field(
        default=0,
        description="Epoch from which `augment` applies; before it, images are flipped only.",
    )
    strong_augment_until: Fraction = Field(
        default=1.0,
        description="Fraction of all epochs after which images are flipped only, so that a run "
        "ends on images as they are. It does not apply to runs of `minutes`.",
    )
    tiles: TileSide = Field(
        default=None,
        description="Learn from tiles of large images, of this many pixels a side: three of four "
        "images show a random tile, the others are seen whole, where objects below 16 pixels are "
        "no targets. Evaluations use the same tiles. "
        "`auto` is the short side of resized images, so that tiles are not resized; null uses "
        "none.",
    )
    mosaic: Fraction = Field(
        default=0.0,
        description="Fraction of the images that become a mosaic with three others, turned by up "
        "to 10 degrees and scaled, so that more queries have a target (DEIM's dense one-to-one "
        "matching). Not for masks.",
    )
    mixup: Fraction = Field(
        default=0.0,
        description="Fraction of the images that are mixed with another one. Not for masks.",
    )
    copies: Fraction = Field(
        default=0.0,
        description="Fraction of the images without `mixup` that three objects of others are "
        "copied into, half transparent, at random places (DEIMv2). Not for masks.",
    )
    combine_until: Fraction = Field(
        default=0.5,
        description="Fraction of all epochs after which images are combined no more, by `mosaic`, "
        "`mixup` and `copies`. It does not apply to runs of `minutes`.",
    )
    short_side_px: SidePx = Field(
        default=800,
        description="Short side of resized images. `auto` makes nine of ten training objects "
        "large enough to detect.",
    )
    auto_sides_px: Annotated[list[Side], Field(min_length=1)] = Field(
        default=[160, 192, 256, 320],
        description="Sides that `short_side_px: auto` chooses from, smallest first.",
    )
    long_side_px: SidePx = Field(
        default=1333,
        description="Largest long side of resized images. `auto` is twice the short side.",
    )
    things_only: bool = Field(
        default=False,
        description="Ignore stuff classes: instance segmentation on panoptic data.",
    )
    workers: Workers = Field(
        default="auto",
        description="Processes that load images, for each training process; 0 loads them in the "
        "training process. `auto` depends on CPU cores and GPU.",
    )
    keep_decoded_mb: CountOrZero = Field(
        default=512,
        description="Megabytes of decoded training images that each training process, with the "
        "processes that load its images, keeps in memory; images that fit are read once. 0 keeps "
        "none.",
    )
    on_bad_image: Literal["skip", "stop"] = Field(
        default="skip",
        description="What to do with training images that cannot be read: `skip` leaves out up to "
        "1% of them and lists them in the data report; `stop` ends the run.",
    )


class MatchCosts(Section):
    """Weights of the matching cost: class cost + L1 distance - GIoU (arXiv 2005.12872, eq. 1).

    `quality`, which is not a part of it, is subtracted as well.
    """

    class_: NotNegative = Field(
        default=1.0, alias="class", description="Weight of the classification cost."
    )
    l1: NotNegative = Field(default=5.0, description="Weight of the L1 distance of the boxes.")
    giou: NotNegative = Field(default=2.0, description="Weight of the generalized IoU.")
    quality: NotNegative = Field(
        default=0.0,
        description="Weight of the score of the target's class times the fourth power of the IoU.",
    )


class LossWeights(Section):
    """Weights of the loss terms. Every decoder layer has the same; masks have the last alone."""

    class_: NotNegative = Field(
        default=1.0, alias="class", description="Weight of the classification loss."
    )
    l1: NotNegative = Field(default=5.0, description="Weight of the L1 loss of the boxes.")
    giou: NotNegative = Field(default=2.0, description="Weight of the generalized IoU loss.")
    mask: NotNegative = Field(default=1.0, description="Weight of the focal loss of the masks.")
    dice: NotNegative = Field(default=1.0, description="Weight of the DICE loss of the masks.")
    edges: NotNegative = Field(
        default=0.15,
        description="Weight of the loss of the edge distributions (D-FINE's fine-grained "
        "localization loss).",
    )
    distillation: NotNegative = Field(
        default=1.5,
        description="Weight of the distillation of edge distributions from the last layer to "
        "the others (D-FINE).",
    )
    auxiliary: bool = Field(
        default=True, description="Train every decoder layer; false trains the last one alone."
    )
    pooled_matches: bool = Field(
        default=False,
        description="Train boxes and edges of every layer on the matches of all layers and of the "
        "proposals, each query with its most frequent target (D-FINE).",
    )
    extra: dict[str, NotNegative] = Field(
        default={}, description="Weights of custom loss terms, by name."
    )

    @model_validator(mode="after")
    def _check_extra(self) -> "LossWeights":
        taken = sorted(self.extra.keys() & self._built_in().keys())
        if taken:
            raise ValueError(f"extra.{taken[0]} is a built-in weight; set loss.{taken[0]}")
        return self

    def of(self, key: str) -> float:
        """Return the weight called `key` in the recipe. Raises ConfigError if there is none."""
        weights = {**self._built_in(), **self.extra}
        if key not in weights:
            raise ConfigError(
                f"loss.extra.{key}: missing; the recipe has no weight for this loss term: "
                f"set it with --set loss.extra.{key}=1"
            )
        return weights[key]

    def _built_in(self) -> dict[str, float]:
        boxes = {"l1": self.l1, "giou": self.giou}
        edges = {"edges": self.edges, "distillation": self.distillation}
        return {"class": self.class_, **boxes, "mask": self.mask, "dice": self.dice, **edges}


class TrainSettings(Section):
    """Optimization and schedule of a run, or of one of its stages."""

    epochs: CountOrAuto = Field(
        default=300,
        description="Length of the run in passes over the training images. `auto` makes 3,000 "
        "optimizer steps of it, but at least 12 epochs and at most 300. With `minutes` above 0 it "
        "does not apply.",
    )
    minutes: NotNegative = Field(
        default=0.0, description="Length of the run in minutes of training; 0 means use `epochs`."
    )
    batch_size: Count = Field(
        default=16, description="Images per optimizer step, over all processes."
    )
    micro_batch: CountOrAuto = Field(
        default=2,
        description="Images per forward pass of a process; gradients accumulate up to "
        "`batch_size`. `auto` is everything at once on a GPU, and on a CPU up to 8 of the largest "
        "images that memory holds. When "
        "memory runs out, one process continues with half as many.",
    )
    lr: Positive = Field(default=1e-4, description="Learning rate of AdamW, without the backbone.")
    backbone_lr: NotNegative = Field(
        default=1e-5, description="Learning rate of a pretrained backbone."
    )
    muon_lr: NotNegative = Field(
        default=0.0,
        description="Learning rate of Muon for hidden weight matrices, in models that separate "
        "them; 0 trains them with AdamW.",
    )
    weight_decay: NotNegative = Field(default=1e-4, description="Decoupled weight decay.")
    clip_norm: Positive = Field(
        default=0.1, description="Largest norm of the gradient; larger gradients are scaled down."
    )
    schedule: Literal["drop", "cosine"] = Field(
        default="drop",
        description="Learning rate schedule: `drop` divides it by 10 at `drop_epoch`, `cosine` "
        "decays it to `final_lr`.",
    )
    cosine_from: Fraction = Field(
        default=0.0,
        description="Fraction of the run before which `schedule: cosine` keeps the rate constant.",
    )
    cosine_until: Positive = Field(
        default=1.0,
        le=1,
        description="Fraction of the run at which `schedule: cosine` has reached `final_lr`, which "
        "it keeps from there on.",
    )
    final_lr: Fraction = Field(
        default=0.0,
        description="Factor on the learning rates where `schedule: cosine` has ended.",
    )
    drop_epoch: Count = Field(
        default=200,
        description="Epoch of the drop with `schedule: drop`; in runs of `minutes` it is at two "
        "thirds of the time.",
    )
    warmup_steps: CountOrZero = Field(
        default=0,
        description="Steps of warm-up; runs of `minutes` warm up for 2% of their time.",
    )
    warmup: Literal["linear", "quadratic"] = Field(
        default="linear",
        description="How rates rise in the warm-up; `quadratic` rises slowly first (DEIM).",
    )
    full_size_at: Fraction = Field(
        default=0.0,
        description="Progressive resizing: images start at half their size and reach full size at "
        "this fraction of the run; 0 trains at full size throughout.",
    )
    ema_decay: Annotated[Real, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Decay of the exponential moving average of the weights, which is evaluated "
        "and saved; 0 keeps none.",
    )
    ema_warmup_steps: CountOrZero = Field(
        default=0,
        description="With n of these, the average's decay at step s is `ema_decay` times "
        "1 - exp(-s / n), as RT-DETR and D-FINE have it; 0 lets it grow faster, as "
        "(1 + s) / (10 + s), up to `ema_decay`.",
    )
    return_to_best_at: Fraction = Field(
        default=1.0,
        description="Fraction of all epochs at which the last stage starts: training goes on from "
        "the state of the best evaluation before, and again after each later one that is no "
        "better than the one before it (D-FINE). Its checkpoint is kept. 1 has no such stage, nor "
        "have runs of `minutes`.",
    )
    match_by_quality_from: Fraction = Field(
        default=1.0,
        description="Fraction of the run from which on `matching.quality` alone is the matching "
        "cost, at weight 1 (DEIMv2). 1 keeps the costs of `matching`.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision of the forward pass. `auto` is bfloat16 where the device is fast at "
        "it. Matching and losses are always float32.",
    )
    seed: CountOrZero = Field(
        default=42, description="Seed of weights, image order, augmentation and dropout."
    )
    evaluate_every: CountOrAuto = Field(
        default=1,
        description="Epochs between evaluations. `auto` evaluates about 30 times in a run.",
    )
    patience: CountOrZero = Field(
        default=0,
        description="Early stopping: the run ends after this many evaluations in a row that are "
        "worse than the best one, by PQ or AP; 0 never ends it early.",
    )
    checkpoint_every: Count = Field(
        default=500,
        description="Steps between checkpoints; one is also written at the end of every epoch.",
    )
    keep_checkpoints: Annotated[int, Field(ge=2)] = Field(
        default=2, description="Number of newest checkpoints to keep."
    )
    log_every: Count = Field(default=10, description="Steps between lines of the log.")
    nonfinite_limit: Count = Field(
        default=10,
        description="Consecutive steps with a non-finite loss or gradient that end the run; such "
        "steps are skipped.",
    )
    train_only: Literal["all", "masks"] = Field(
        default="all",
        description="Which parameters to train: `masks` freezes the detector and trains the mask "
        "head alone.",
    )
    freeze: Freeze = Field(
        default="none",
        description="Part that keeps its trained weights: the `backbone`, or backbone and "
        "`encoder`; their batch norms take the statistics of the new images. `stem` is the first "
        "part of the backbone, as RT-DETR and D-FINE freeze it in large models.",
    )

    @property
    def num_epochs(self) -> int:
        """The number of epochs, once `auto` has become one."""
        assert self.epochs != "auto", "resolve_length comes first"
        return self.epochs

    @property
    def epochs_per_evaluation(self) -> int:
        """The number of epochs between evaluations, once `auto` has become one."""
        assert self.evaluate_every != "auto", "resolve_length comes first"
        return self.evaluate_every


class Recipe(Section):
    """Every setting of a run. The defaults are the published recipe of DETR."""

    model: ModelSettings = Field(default=ModelSettings(), description="The model.")
    data: DataSettings = Field(default=DataSettings(), description="Images and augmentation.")
    matching: MatchCosts = Field(default=MatchCosts(), description="Weights of the matching cost.")
    loss: LossWeights = Field(default=LossWeights(), description="Weights of the loss terms.")
    box_stage: TrainSettings | None = Field(
        default=None,
        description="Settings of a first stage that trains the detector without its mask head; "
        "null trains in a single stage.",
    )
    train: TrainSettings = Field(
        default=TrainSettings(), description="Optimization of the run, or of its last stage."
    )
