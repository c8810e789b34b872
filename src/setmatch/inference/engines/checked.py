"""What an engine returns is checked once, so that a mistake in it is said and never in a result."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

from setmatch.errors import ConfigError, DataError, diverged, short
from setmatch.inference.engines.base import Engine
from setmatch.losses.classification import ClassificationLoss
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import ModelCard
from setmatch.structures.outputs import ModelOutput, Predictions
from setmatch.structures.tensor_checks import described

Detect = TypeVar("Detect", bound=Callable[..., ModelOutput])


def sound(detect: Detect) -> Detect:
    """Mark a method `detect` as one that has checked the values that it returns."""
    vars(detect)["is_sound"] = True
    return detect


def is_sound(engine: Engine) -> bool:
    """Return whether an engine checks what it returns, as those of setmatch do."""
    return hasattr(type(engine).detect, "is_sound")


def sound_output(engine: Engine, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
    """Return what an engine detects; that of a user's own is checked, and sorted on the CPU.

    Raises ConfigError for an output of another kind or for other images, WeightsError for values
    that are not finite, and DataError for other wrong values.
    """
    output = engine.detect(batch, sizes_px)
    if is_sound(engine):
        return output
    where = f"engine {type(engine).__name__}"
    require_output(output, engine, sizes_px, where)
    if output.predictions is not None:
        _require_predictions(engine, output.predictions, len(sizes_px), where)
    return ModelOutput([_sorted(each) for each in output.detections], output.predictions)


def require_members(engine: Engine) -> None:
    """Raise ConfigError if a member of an engine has another type, or a value out of range."""
    wanted: dict[str, tuple[Callable[[Any], bool], str]] = {
        "card": (lambda card: isinstance(card, ModelCard), "a setmatch ModelCard"),
        "class_loss": (
            lambda loss: isinstance(loss, ClassificationLoss),
            "a classification loss of setmatch.losses",
        ),
        "num_queries": (
            lambda count: isinstance(count, Integral) and int(count) > 0,
            "a number from 1 on",
        ),
        "default_threshold": (
            lambda score: isinstance(score, Real) and 0 <= float(score) <= 1,
            "a score between 0 and 1",
        ),
    }
    for name, (is_right, what) in wanted.items():
        given = getattr(engine, name, None)
        if not is_right(given):
            raise ConfigError(
                f"engine {type(engine).__name__}: {name} = {short(given)}; it should be {what}"
            )


def require_output(
    output: Any, engine: Engine, sizes_px: Sequence[tuple[int, int]], where: str
) -> None:
    """Raise an error unless `detect` returned sound detections for each image.

    It is ConfigError for another kind of output or number of images, WeightsError for values that
    are not finite, and DataError for other wrong values. `where` is what detected.
    """
    if not isinstance(output, ModelOutput):
        raise ConfigError(
            f"{where}: detect returned {described(output)}; it should be a ModelOutput"
        )
    found: Any = output.detections
    are_lists = isinstance(found, list | tuple)
    if not are_lists or not all(isinstance(each, Detections) for each in found):
        raise ConfigError(
            f"{where}: detect returned detections of type {type(found).__name__}; they should be a "
            "list of setmatch.Detections, one for each image"
        )
    if not isinstance(output.predictions, Predictions | None):
        raise ConfigError(
            f"{where}: detect returned {described(output.predictions)} as predictions; they should "
            "be setmatch.Predictions, or None"
        )
    sizes = [tuple(each.size_px) for each in found]
    if sizes != [tuple(each) for each in sizes_px]:
        raise ConfigError(
            f"{where}: detect returned detections in images of {short(sizes)} px, but was given "
            f"images of {short(list(sizes_px))} px; each image has its detections, in the order of "
            "sizes_px"
        )
    for each in found:
        count = len(engine.card.categories)
        if len(each.categories) != count:
            raise ConfigError(
                f"{where}: detect returned detections of {len(each.categories)} classes, but the "
                f"card has {count}; use card.categories"
            )
        masks = each.masks
        if masks is not None and (masks.bits.shape[1], masks.width_px) != tuple(each.size_px):
            raise ConfigError(
                f"{where}: detect returned masks of {masks.bits.shape[1]}x{masks.width_px} px for "
                f"an image of {each.size_px[0]}x{each.size_px[1]} px; masks have the image's size"
            )
        if each.scores.is_meta:
            raise ConfigError(f"{where}: detect returned detections on meta, without values")
    require_sound(found)


def require_sound(detections: Sequence[Detections]) -> None:
    """Raise WeightsError if a score or box is not finite, DataError for other wrong values."""
    for each in detections:
        problem = each.unsound()
        if problem is None:
            continue
        if not (each.scores.isfinite().all() and each.xyxy_px.isfinite().all()):
            raise diverged("scores or boxes")
        raise DataError(f"{problem}; this is what the model's detect returned")


def _require_predictions(engine: Engine, predictions: Predictions, images: int, where: str) -> None:
    layers, given, _, logits = predictions.logits.shape
    wanted = engine.class_loss.num_logits(len(engine.card.categories))
    if not layers or given != images or logits != wanted:
        raise ConfigError(
            f"{where}: predicts logits {tuple(predictions.logits.shape)} for {images} images; they "
            f"should be (layers, {images}, queries, {wanted})"
        )
    if not all(bool(e.isfinite().all()) for e in (predictions.logits, predictions.cxcywh)):
        raise diverged("scores or boxes")


def _sorted(found: Detections) -> Detections:
    """Return detections best first, as float32 on the CPU, without gradients."""
    order = found.scores.detach().cpu().float().argsort(descending=True, stable=True)
    return Detections(
        found.xyxy_px.detach().cpu().float()[order],
        found.scores.detach().cpu().float()[order],
        found.classes.cpu().long()[order],
        found.categories,
        found.size_px,
        None if found.masks is None else found.masks[order],
    )
