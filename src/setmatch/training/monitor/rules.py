"""The rules of the training monitor: each detects one fault from the log.

A rule returns a warning that says what is wrong, the evidence, and what to do; or None if nothing
is wrong, or it is too early to tell. The thresholds are far from anything seen in runs that train
well (LOG.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

from setmatch.errors import counted
from setmatch.training.logging.writers import Row, Value
from setmatch.training.schedule.schedule import CLOCK_WARMUP, Schedule

# The number of steps below which no run learned anything, by initial weights and kind of queries.
# The published method needs many (its own training took 500,000), and fewer with Muon.
_MIN_STEPS = {"published": 2000, "published, with Muon": 300, "fast": 60, "loaded": 40}
_SAME_BOXES, _SAME_OBJECTS = 0.9, 0.5  # fractions that are one and the same box
_UNSTABLE = 0.6  # fraction of objects that change their query between evaluations
_SETTLING = 0.85  # of the mean: matching gets more stable
_ZERO_AP50 = 0.01
_GOOD_AP50 = 0.2
# Before this many steps, or this many that are few epochs, a class with objects may still be
# learned: the platelets of 205 images took more than 154 steps, or 12 epochs.
_FIRST_STEPS, _EARLY_STEPS, _EARLY_EPOCHS = 200, 500, 10
_GIOU_FACTOR, _GIOU_INCREASE = 1.3, 0.1  # of the GIoU loss
_ROWS = 5  # of the log, for medians
_WINDOW, _MIN_DROP = 3, 0.02  # evaluations; AP
_LOSS_RATIO = 0.9  # of the loss at the best AP, for a loss that still falls
_NOISE_FACTOR = 6  # a drop in AP must exceed its usual change between evaluations this many times
TRAIN_LOSS = "train/loss"  # in the row of an evaluation: the loss of the steps before it


@dataclass(frozen=True)
class RunContext:
    """What is known of a run before its first step."""

    schedule: Schedule
    fixed_queries: bool  # True for learned queries, as in DETR, which need many more steps
    loaded_weights: str | None  # initial weights of a detector; None also if unknown
    objects: Mapping[str, int]  # number of training objects of each class


@dataclass(frozen=True)
class RunHistory:
    """The log of a run so far: its first and its newest training rows, and all evaluations."""

    context: RunContext
    first: Row
    recent: Sequence[Row]
    evaluations: Sequence[Row]  # each with the training loss before it, as TRAIN_LOSS
    per_class: Mapping[str, float]  # AP50 of the newest evaluation, for classes with objects
    progress: float  # fraction of the run
    expected_steps: float


Rule = Callable[[RunHistory], str | None]


def queries_collapsed(run: RunHistory) -> str | None:
    """Detect that all matched queries predict nearly the same box."""
    last = run.evaluations[-2:]
    same_boxes, same_objects = column(last, "probe/alike"), column(last, "probe/objects_alike")
    if len(same_boxes) < 2 or min(same_boxes) < _SAME_BOXES or same_objects[-1] > _SAME_OBJECTS:
        return None
    if run.progress < 0.2:  # every model starts like this
        return None
    return (
        f"the queries have collapsed to one box: {same_boxes[-1]:.0%} of the boxes matched to "
        f"validation objects are nearly the same box, but only {same_objects[-1]:.0%} of the "
        f"objects are; try a tenth of {_learning_rates(run)}{_longer_warmup(run, ' or')}, or start "
        "from trained --weights"
    )


def unstable_matching(run: RunHistory) -> str | None:
    """Detect that objects are matched to other queries at every evaluation."""
    flips = column(run.evaluations[-3:], "probe/flips")
    if len(flips) < 3 or mean(flips) < _UNSTABLE or run.progress < 0.4:
        return None
    if flips[-1] < _SETTLING * mean(flips):
        return None
    percentages = ", ".join(f"{fraction:.0%}" for fraction in flips)
    return (
        f"matching is unstable: between evaluations, {percentages} of the objects in the same "
        f"validation images were matched to another query; try a lower {_learning_rates(run)} or "
        "many more epochs, or a model with denoising (--model setmatch_n)"
    )


def class_never_detected(run: RunHistory) -> str | None:
    """Detect that a class is never detected while others are."""
    detected = [ap50 for ap50 in run.per_class.values() if ap50 > 0]
    never = [name for name, ap50 in run.per_class.items() if ap50 == 0]
    objects, images = run.context.objects, run.context.schedule.images
    if not never or not detected or median(detected) < _GOOD_AP50 or run.progress < 0.5:
        return None
    steps = int(run.evaluations[-1]["step"] or 0)
    epochs = steps * run.context.schedule.settings.batch_size / images
    early = steps < _FIRST_STEPS or (steps < _EARLY_STEPS and epochs < _EARLY_EPOCHS)
    if early and all(objects.get(name) for name in never):
        return None
    rarest = sorted(never, key=lambda name: objects.get(name, 0))
    names = ", ".join(
        f"{name!r} ({objects.get(name, 0):,} training objects)" for name in rarest[:5]
    )
    more = f" and {len(never) - 5} more" if len(never) > 5 else ""
    return (
        f"a class is never detected: AP50 is 0 for {names}{more}, while the median of the other "
        f"classes is {median(detected):.2f}; train longer or add images of it, and check with "
        "`setmatch audit DATA --html` that both splits annotate it the same way"
    )


def nothing_detected(run: RunHistory) -> str | None:
    """Detect that the loss falls but validation AP50 stays at 0."""
    ap50 = column(run.evaluations, "AP50")
    start, losses = number(run.first.get("loss")), column(run.recent, "loss")
    if len(ap50) < 3 or max(ap50) > _ZERO_AP50 or run.progress < 0.5:
        return None
    if start is None or len(losses) < _ROWS or median(losses) > 0.9 * start:
        return None
    last = run.evaluations[-1]
    iou, right_class = number(last.get("probe/iou")), number(last.get("probe/named"))
    evidence = (
        f"nothing is detected: the loss fell from {start:.3g} to {median(losses):.3g}, but after "
        f"{len(ap50)} evaluations AP50 is {100 * ap50[-1]:.2f}"
    )
    if iou is None or right_class is None:
        return f"{evidence}; compare the annotations of both splits with `setmatch audit`"
    evidence += (
        f" (boxes matched to validation objects have a mean IoU of {iou:.2f}, and "
        f"{right_class:.0%} the right class)"
    )
    if iou >= 0.5 and right_class < 0.5:
        return (
            f"{evidence}. The model learns boxes, but not classes: train longer, and check that "
            "class names are the same in both splits"
        )
    longer = "train many more epochs or use --model setmatch_n" * run.context.fixed_queries
    return (
        f"{evidence}; check with `setmatch audit DATA --html` that the boxes of both splits lie on "
        f"the objects; if they do, {longer or 'train longer'}"
    )


def overfitting(run: RunHistory) -> str | None:
    """Detect that the training loss keeps falling while validation AP falls too.

    Compares medians of three evaluations. The drop must exceed the usual change of AP from one
    evaluation to the next. Models with masks are skipped, since AP is not their score.
    """
    rows = [row for row in run.evaluations if number(row.get(TRAIN_LOSS)) is not None]
    aps, losses, steps = (column(rows, name) for name in ("AP", TRAIN_LOSS, "step"))
    if len(aps) < 2 * _WINDOW or len(aps) != len(rows) or "mask_AP" in rows[-1] or "PQ" in rows[-1]:
        return None
    medians = [median(aps[at : at + _WINDOW]) for at in range(len(aps) - _WINDOW + 1)]
    best = max(range(len(medians) - _WINDOW), key=medians.__getitem__)
    changes = [later - earlier for earlier, later in pairwise(aps)]
    noise = median(abs(change - median(changes)) for change in changes)  # around any trend
    drop, best_loss = medians[best] - medians[-1], median(losses[best : best + _WINDOW])
    if drop < max(_MIN_DROP, _NOISE_FACTOR * noise) or losses[-1] > _LOSS_RATIO * best_loss:
        return None
    return (
        f"the model is overfitting: AP was {100 * medians[best]:.1f} around step "
        f"{steps[best + 1]:.0f} and is {100 * medians[-1]:.1f} now, while the training loss fell "
        f"from {best_loss:.3g} to {losses[-1]:.3g}; you can stop the run, since its best/ folder "
        "has the best weights; "
        "more images help most"
    )


def lr_too_high(run: RunHistory) -> str | None:
    """Detect that the GIoU loss has become worse than at the first step."""
    start, giou = number(run.first.get("giou")), column(run.recent, "giou")
    if start is None or run.first["step"] != 1 or len(giou) < _ROWS:
        return None
    now = median(giou)
    if now < _GIOU_FACTOR * start or now < start + _GIOU_INCREASE:
        return None
    loaded = run.context.loaded_weights
    of_weights = f" for the loaded weights ({loaded})" if loaded else ""
    return (
        f"the learning rate is too high{of_weights}: the GIoU loss of the boxes was {start:.2f} "
        f"before the first step and is {now:.2f} now; stop, and start again with a tenth of "
        f"{_learning_rates(run)}{_longer_warmup(run, ' and')}"
    )


def too_few_steps(run: RunHistory) -> str | None:
    """Detect, before step 1 if possible, that the run is too short to learn anything."""
    context, settings = run.context, run.context.schedule.settings
    published = "published, with Muon" if settings.muon_lr else "published"
    from_scratch = published if context.fixed_queries else "fast"
    kind = "loaded" if context.loaded_weights else from_scratch
    steps, min_steps = run.expected_steps, _MIN_STEPS[kind]
    by_clock = context.schedule.by_clock
    warmup = 0 if by_clock else settings.warmup_steps
    if steps >= max(min_steps, 2 * warmup):
        return None
    length = "train.minutes" if by_clock else "train.epochs"
    epochs = steps * settings.batch_size / context.schedule.images
    evidence = (
        f"too few steps: {'about ' * by_clock}{counted(round(steps), 'step')} of "
        f"{settings.batch_size} images; every image is seen {epochs:.1f} times"
    )
    if by_clock and steps * CLOCK_WARMUP < 1:
        evidence += "; the warm-up, a fiftieth of the time, is shorter than one step"
    elif steps <= warmup:
        evidence += f"; the warm-up of {warmup} steps does not end, so train.lr is never reached"
    elif steps < 2 * warmup:
        evidence += f"; {warmup} of the steps are warm-up"
    if steps >= min_steps:
        return f"{evidence}: raise {length}, or lower train.warmup_steps"
    needs = {
        "published": "from random weights the published model needs some thousands",
        "published, with Muon": "from random weights this model needs some hundreds",
        "fast": "from random weights this model needs some hundreds",
        "loaded": "fine-tuning needs some hundreds",
    }
    instead = ", or choose --model setmatch_n" * (kind == "published")
    return f"{evidence}; {needs[kind]}: raise {length} or lower train.batch_size{instead}"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        too_few_steps,
        lr_too_high,
        queries_collapsed,
        unstable_matching,
        class_never_detected,
        nothing_detected,
        overfitting,
    )
}


def _longer_warmup(run: RunHistory, conjunction: str) -> str:
    """Return advice for a run of epochs; a time-based run has a fixed warm-up."""
    by_clock = run.context.schedule.by_clock
    return "" if by_clock else f"{conjunction} a longer train.warmup_steps"


def _learning_rates(run: RunHistory) -> str:
    """Return the settings that hidden layers depend on, with their values."""
    settings = run.context.schedule.settings
    muon = f" and train.muon_lr (now {settings.muon_lr:g})" if settings.muon_lr else ""
    return f"train.lr (now {settings.lr:g}){muon}"


def number(value: Value) -> float | None:
    """Return a value of a log row if it is a number, else None."""
    return float(value) if isinstance(value, int | float) else None


def column(rows: Sequence[Row], name: str) -> list[float]:
    """Return the numbers of a column, over rows that have one."""
    return [value for row in rows if (value := number(row.get(name))) is not None]
