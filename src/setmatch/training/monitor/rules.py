"""What can go wrong in a training, each fault told from the log in a sentence with its evidence.

A rule returns None where nothing is wrong or nothing can be told yet. The limits are chosen so that
they are far from what a run that learns was seen to do; LOG.md has the runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

from setmatch.training.logging.writers import Row, Value
from setmatch.training.schedule import CLOCK_WARMUP, Schedule

# Steps below which nothing was ever learned: by what the weights begin with and how queries are
# made. The published method needs many (its own training took 500,000), fewer by Muon.
_FEWEST_STEPS = {"published": 2000, "published, by Muon": 300, "fast": 60, "loaded": 40}
_ALL_ALIKE, _OBJECTS_DIFFER = 0.9, 0.5
_RESTLESS = 0.6  # of the objects change their query from one evaluation to the next
_SETTLING = 0.85  # of their mean: flips grow rarer
_NOTHING_AP50 = 0.01
_OTHERS_AP50 = 0.2
# Before so many steps, or so many that are few rounds, a class that has objects may still come:
# the platelets of 205 photographs took more than 154 steps, or 12 rounds.
_FIRST_STEPS, _EARLY_STEPS, _EARLY_ROUNDS = 200, 500, 10
_WORSE, _WORSE_BY = 1.3, 0.1  # of the GIoU loss
_ROWS = 5  # of the log, whose median is compared
_SINCE, _FALLEN, _LEARNED = 3, 0.02, 0.9  # evaluations, of AP, of the loss when AP was best
_STANDS_OUT = 6  # times as much as AP wavers between two evaluations
LOSS = "train/loss"  # in the row of an evaluation: of the steps before it


@dataclass(frozen=True)
class RunContext:
    """What is known of a run before its first step."""

    plan: Schedule
    published: bool  # True for learned queries, as DETR has them: they need many more steps
    loaded: str | None  # a detector's weights that the run began with; None also where unknown
    objects: Mapping[str, int]  # training objects of each class


@dataclass(frozen=True)
class RunHistory:
    """What a run has shown so far: its first training row, the newest, and all evaluations."""

    origin: RunContext
    first: Row
    recent: Sequence[Row]
    evaluations: Sequence[Row]  # and the loss of training before each, as LOSS
    per_class: Mapping[str, float]  # AP50 of the newest evaluation, of classes that can be found
    progress: float  # of the run, 0 to 1
    steps_expected: float


Rule = Callable[[RunHistory], str | None]


def queries_collapsed(seen: RunHistory) -> str | None:
    """Tell that queries collapsed: what answers for different objects is one and the same box."""
    last = seen.evaluations[-2:]
    alike, objects = column(last, "probe/alike"), column(last, "probe/objects_alike")
    if len(alike) < 2 or min(alike) < _ALL_ALIKE or objects[-1] > _OBJECTS_DIFFER:
        return None
    if seen.progress < 0.2:  # every model begins so
        return None
    return (
        f"the queries have collapsed to one box: of the boxes that answer for the objects of the "
        f"validation images, {alike[-1]:.0%} are the same, of the objects {objects[-1]:.0%}; try a "
        f"tenth of {_rates(seen)}{_longer_warm_up(seen, ' or')}, or start from "
        "a detector's --weights"
    )


def unstable_matching(seen: RunHistory) -> str | None:
    """Tell that the same objects are answered for by other queries at every evaluation."""
    flips = column(seen.evaluations[-3:], "probe/flips")
    if len(flips) < 3 or mean(flips) < _RESTLESS or seen.progress < 0.4:
        return None
    if flips[-1] < _SETTLING * mean(flips):
        return None
    told = ", ".join(f"{share:.0%}" for share in flips)
    return (
        f"matching does not settle: {told} of the objects of the same images changed their query "
        f"from one evaluation to the next; try a lower {_rates(seen)} or many "
        "more epochs, or a model with denoising (--model setmatch_n)"
    )


def class_never_detected(seen: RunHistory) -> str | None:
    """Tell that a class is never found while the others are."""
    found = [ap50 for ap50 in seen.per_class.values() if ap50 > 0]
    never = [name for name, ap50 in seen.per_class.items() if ap50 == 0]
    objects, images = seen.origin.objects, seen.origin.plan.images
    if not never or not found or median(found) < _OTHERS_AP50 or seen.progress < 0.5:
        return None
    steps = int(seen.evaluations[-1]["step"] or 0)
    rounds = steps * seen.origin.plan.settings.batch_size / images
    early = steps < _FIRST_STEPS or (steps < _EARLY_STEPS and rounds < _EARLY_ROUNDS)
    if early and all(objects.get(name) for name in never):
        return None
    scarcest = sorted(never, key=lambda name: objects.get(name, 0))
    told = ", ".join(f"{name} ({objects.get(name, 0):,} training objects)" for name in scarcest[:5])
    more = f" and {len(never) - 5} more" if len(never) > 5 else ""
    return (
        f"a class is never found: AP50 is 0 for {told}{more}, where {median(found):.2f} is the "
        "median of the others; train longer or add images of it, or see with `setmatch audit DATA "
        "--html` whether it is annotated alike in both splits"
    )


def nothing_detected(seen: RunHistory) -> str | None:
    """Tell that the loss falls and yet nothing is found in the validation images."""
    ap50 = column(seen.evaluations, "AP50")
    start, losses = number(seen.first.get("loss")), column(seen.recent, "loss")
    if len(ap50) < 3 or max(ap50) > _NOTHING_AP50 or seen.progress < 0.5:
        return None
    if start is None or len(losses) < _ROWS or median(losses) > 0.9 * start:
        return None
    last = seen.evaluations[-1]
    iou, named = number(last.get("probe/iou")), number(last.get("probe/named"))
    evidence = (
        f"the loss fell from {start:.3g} to {median(losses):.3g}, but after {len(ap50)} "
        f"evaluations AP50 is {ap50[-1]:.4f}"
    )
    if iou is None or named is None:
        return f"{evidence}; compare the annotations of both splits with `setmatch audit`"
    evidence += (
        f" (on validation images the boxes nearest to the objects overlap them by {iou:.2f}, "
        f"{named:.0%} name the right class)"
    )
    if iou >= 0.5 and named < 0.5:
        return (
            f"{evidence}: boxes are learned, classes are not; train longer, and check that both "
            "splits name their classes alike"
        )
    longer = "train many more epochs or use --model setmatch_n" * seen.origin.published
    return (
        f"{evidence}: see with `setmatch audit DATA --html` whether the boxes of both splits lie "
        f"on the objects; if they do, {longer or 'train longer'}"
    )


def overfitting(seen: RunHistory) -> str | None:
    """Tell that the training pictures are learned ever better and others ever worse.

    Medians of three evaluations are compared, and a fall must stand out of how AP wavers from one
    to the next. Of a model with masks another number says what is best; it is left in peace.
    """
    rows = [row for row in seen.evaluations if number(row.get(LOSS)) is not None]
    aps, losses, steps = (column(rows, name) for name in ("AP", LOSS, "step"))
    if len(aps) < 2 * _SINCE or len(aps) != len(rows) or "mask_AP" in rows[-1] or "PQ" in rows[-1]:
        return None
    middles = [median(aps[at : at + _SINCE]) for at in range(len(aps) - _SINCE + 1)]
    best = max(range(len(middles) - _SINCE), key=middles.__getitem__)
    changes = [later - earlier for earlier, later in pairwise(aps)]
    wavers = median(abs(change - median(changes)) for change in changes)  # about any trend
    fallen, before = middles[best] - middles[-1], median(losses[best : best + _SINCE])
    if fallen < max(_FALLEN, _STANDS_OUT * wavers) or losses[-1] > _LEARNED * before:
        return None
    return (
        f"the pictures are learned by heart: AP was {middles[best]:.3f} around step "
        f"{steps[best + 1]:.0f} and is {middles[-1]:.3f} now, while the loss fell from "
        f"{before:.3g} to {losses[-1]:.3g}; the run's best/ keeps the best weights, so that it "
        "can be stopped; more pictures help most"
    )


def lr_too_high(seen: RunHistory) -> str | None:
    """Tell that the boxes have become worse than they were before the first step."""
    start, giou = number(seen.first.get("giou")), column(seen.recent, "giou")
    if start is None or seen.first["step"] != 1 or len(giou) < _ROWS:
        return None
    now = median(giou)
    if now < _WORSE * start or now < start + _WORSE_BY:
        return None
    origin = seen.origin
    of_what = f" for the loaded weights ({origin.loaded})" if origin.loaded else ""
    return (
        f"the learning rate is too high{of_what}: the GIoU loss of the boxes was {start:.2f} "
        f"before the first step and is {now:.2f} now; stop, and begin again with a tenth of "
        f"{_rates(seen)}{_longer_warm_up(seen, ' and')}"
    )


def too_few_steps(seen: RunHistory) -> str | None:
    """Warn that the run ends before anything can be learned, if possible before step 1."""
    origin, settings = seen.origin, seen.origin.plan.settings
    published = "published, by Muon" if settings.muon_lr else "published"
    kind = "loaded" if origin.loaded else published if origin.published else "fast"
    steps, fewest = seen.steps_expected, _FEWEST_STEPS[kind]
    by_clock = origin.plan.by_clock
    warmup = 0 if by_clock else settings.warmup_steps
    if steps >= max(fewest, 2 * warmup):
        return None
    length = "train.minutes" if by_clock else "train.epochs"
    what = (
        f"too few steps: {'about ' * by_clock}{steps:.0f} of {settings.batch_size} images, each "
        f"image {steps * settings.batch_size / origin.plan.images:.1f} times"
    )
    if by_clock and steps * CLOCK_WARMUP < 1:
        what += "; not even the warm-up, the first fiftieth of the time, is as long as a step"
    elif steps <= warmup:
        what += f"; the warm-up of {warmup} does not end, so that train.lr is never reached"
    elif steps < 2 * warmup:
        what += f", {warmup} of them warm-up"
    if steps >= fewest:
        return f"{what}: raise {length}, or lower train.warmup_steps"
    needs = {
        "published": "from random weights the published model needs some thousands",
        "published, by Muon": "from random weights this model needs some hundreds",
        "fast": "from random weights this model needs some hundreds",
        "loaded": "fine-tuning needs some hundreds",
    }
    instead = ", or choose --model setmatch_n" * (kind == "published")
    return f"{what}; {needs[kind]}: raise {length} or lower train.batch_size{instead}"


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


def _longer_warm_up(seen: RunHistory, word: str) -> str:
    """Return advice, unless the clock says how long the warm-up is."""
    return "" if seen.origin.plan.by_clock else f"{word} a longer train.warmup_steps"


def _rates(seen: RunHistory) -> str:
    """Return what hidden layers learn by: of what Muon moves, AdamW's rate says nothing."""
    settings = seen.origin.plan.settings
    muon = f" and train.muon_lr (now {settings.muon_lr:g})" if settings.muon_lr else ""
    return f"train.lr (now {settings.lr:g}){muon}"


def number(value: Value) -> float | None:
    """Return what a row of the log holds, if it is a number."""
    return float(value) if isinstance(value, int | float) else None


def column(rows: Sequence[Row], name: str) -> list[float]:
    """Return the numbers of a column, without the rows that have none."""
    return [found for row in rows if (found := number(row.get(name))) is not None]
