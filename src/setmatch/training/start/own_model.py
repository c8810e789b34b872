"""A model or criterion of the user's own, passed to `train` as an object or a factory."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType

from setmatch.config import LossWeights, MatchCosts, ModelSettings, Recipe
from setmatch.errors import ConfigError, quoted
from setmatch.losses.base import Loss
from setmatch.losses.classification import ClassificationLoss
from setmatch.losses.criterion import Criterion
from setmatch.models import load as weights
from setmatch.models.detector import Detector, require_weights
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

DetectorFactory = Callable[[int], Detector]  # called with the number of classes
CriterionFactory = Callable[[ClassificationLoss, MatchCosts, LossWeights], Loss]


@dataclass(frozen=True)
class OwnModel:
    """A detector, or a factory of one, that takes the place of a preset."""

    source: Detector | DetectorFactory

    def __post_init__(self) -> None:
        if not callable(self.source):
            require_weights(self.source, "train")

    @property
    def name(self) -> str:
        """The preset of the detector's card, or "module:factory"."""
        if isinstance(self.source, Detector):
            return self._card.preset
        factory = self.source.func if isinstance(self.source, partial) else self.source
        named = factory if hasattr(factory, "__qualname__") else type(factory)
        return f"{named.__module__}:{named.__qualname__}"

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing on a detector's card; None for a factory."""
        return self._card.preprocessing if isinstance(self.source, Detector) else None

    @property
    def has_masks(self) -> bool | None:
        """True if a detector predicts masks; None for a factory, which has not been called yet."""
        return self.source.mask_head is not None if isinstance(self.source, Detector) else None

    def build(self, categories: Categories, preprocessing: Preprocessing, origin: str) -> Detector:
        """Return the detector to train: the object itself, or what the factory returns.

        `preprocessing` and `origin` go on the card of a factory's detector. Raises ConfigError if
        the classes on a detector's card are not `categories`, or the factory returns no detector.
        """
        if isinstance(self.source, Detector):
            known, wanted = self._card.categories, categories
            if known.names != wanted.names:
                raise ConfigError(
                    f"model {self.name}: its card has the classes {_listed(known)}, but the data "
                    f"set has {_listed(wanted)}. Build the detector for these classes, in this "
                    "order, or pass a factory"
                )
            return self.source
        detector = self.source(len(categories))
        if not isinstance(detector, Detector):
            raise ConfigError(
                f"model {self.name}: expected a factory that returns a Detector, got "
                f"{type(detector).__name__}"
            )
        detector.card = ModelCard(self.name, {}, categories, preprocessing, source=origin)
        return detector

    @property
    def _card(self) -> ModelCard:
        card = getattr(self.source, "card", None)
        if not isinstance(card, ModelCard):
            raise ConfigError(
                f"model {type(self.source).__name__}: the detector has no card, which names its "
                "classes; set detector.card to a ModelCard, or pass a factory"
            )
        return card


def choose_own_recipe(recipe: Recipe, own: OwnModel, overrides: Sequence[str]) -> Recipe:
    """Return the recipe for a model of the user's own; its `model` section names the model alone.

    The preprocessing on a detector's card replaces the image size of the recipe. Raises ConfigError
    for `overrides` of what the model itself decides, and for a recipe of two stages.
    """
    fixed = ["model.", *(["data.short_side_px", "data.long_side_px"] if own.preprocessing else [])]
    for override in overrides:
        if override.strip().startswith(tuple(fixed)):
            raise ConfigError(
                f"--set {override}: model {own.name} is trained as it is passed; change it there"
            )
    if recipe.box_stage is not None:
        raise ConfigError(
            f"model {own.name}: the recipe has a box stage, which needs a preset; set joint=True "
            "(--joint) to train boxes and masks together, or use a recipe without box_stage"
        )
    data = recipe.data
    if own.preprocessing is not None:
        sides_px = own.preprocessing.short_side_px, own.preprocessing.long_side_px
        data = data.model_copy(
            update=dict(zip(("short_side_px", "long_side_px"), sides_px, strict=True))
        )
    return recipe.model_copy(update={"model": ModelSettings(preset=own.name), "data": data})


def fill(detector: Detector, source: Path) -> Detector:
    """Load the weights of a run or checkpoint into `detector` and return it.

    Raises ConfigError if they do not fit.
    """
    state = weights.read(source).state
    try:
        detector.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ConfigError(
            f"{source}: its weights do not fit the model that was passed; pass the same object or "
            f"factory as when the run started ({' '.join(str(error).split())[:300]})"
        ) from None
    return detector


def filled_copy(own: OwnModel, run: Path) -> Detector:
    """Return a new detector like `own` with the weights of `run`, on the CPU, in eval mode."""
    card = weights.read(run).card
    detector = own.build(card.categories, card.preprocessing, card.source)
    if detector is own.source:
        detector = copy.deepcopy(detector)
    detector.card = card
    return fill(detector.cpu(), run).eval()


def build_criterion(
    criterion: Loss | CriterionFactory | None,
    class_loss: ClassificationLoss,
    costs: MatchCosts,
    loss_weights: LossWeights,
) -> Loss:
    """Return the user's criterion; None builds the `Criterion`.

    A class or function is a factory and called as `Criterion` is; any other object is the loss.
    Raises ConfigError for an object that cannot be called.
    """
    if criterion is None:
        return Criterion(class_loss, costs, loss_weights)
    if isinstance(criterion, type | FunctionType | MethodType | partial):
        built: Loss = criterion(class_loss, costs, loss_weights)
        return built
    if not isinstance(criterion, Loss):
        raise ConfigError(
            f"criterion {type(criterion).__name__}: expected a loss, which is called with outputs, "
            "targets and a normalizer, or a factory of one"
        )
    return criterion


def _listed(categories: Categories) -> str:
    names = [categories.name(class_index) for class_index in range(len(categories))]
    return f"{len(names)} ({quoted(names)})"
