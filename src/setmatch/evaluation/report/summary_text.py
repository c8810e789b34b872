"""A diagnosis in plain words: what stands out, and what it means."""

from collections.abc import Iterator

from setmatch.evaluation.metrics.diagnosis import Diagnosis

MEANING = {
    "classification": "well placed, but of the wrong class",
    "localization": "right class, but the box fits too loosely (IoU 0.1 to 0.5)",
    "both": "wrong class and badly placed",
    "duplicate": "the object was already found by a better detection",
    "background": "nothing annotated is there",
    "missed": "an object that no detection comes near",
}
_WORTH_SAYING = 0.005  # of AP: half a point
_SPREAD = 0.1


def sentences(diagnosis: Diagnosis, unknown: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what stands out, most important first; `unknown` are classes the model lacks."""
    if not any(error.count for kind, error in diagnosis.errors.items() if kind != "missed") and (
        not diagnosis.found
    ):
        yield "The model found nothing at all: there is not a single detection to judge."
        return
    yield _overall(diagnosis)
    yield _errors(diagnosis)
    if unknown:
        lost = sum(each.boxes for each in diagnosis.classes if each.name in unknown)
        yield (
            f"The model does not know {_listed(unknown)}: all {lost:,} objects of "
            f"{'this class' if len(unknown) == 1 else 'these classes'} count as missed."
        )
    yield from _extremes(diagnosis)
    yield _scores(diagnosis)
    yield from _layers(diagnosis)


def _overall(diagnosis: Diagnosis) -> str:
    shown = diagnosis.found + diagnosis.false_alarms
    if not shown:
        return "No detection is right at IoU 0.5, so that no threshold would show anything useful."
    return (
        f"Shown from the best threshold of each class on, {diagnosis.found:,} of "
        f"{diagnosis.objects:,} objects are found ({diagnosis.found / diagnosis.objects:.0%}), and "
        f"{diagnosis.found / shown:.0%} of what is shown is right."
    )


def _errors(diagnosis: Diagnosis) -> str:
    costly = sorted(diagnosis.errors.items(), key=lambda item: -item[1].lost_AP50)
    worth = [(kind, e.lost_AP50) for kind, e in costly if e.lost_AP50 >= _WORTH_SAYING]
    if not worth:
        return "No single kind of error costs as much as half a point of AP50."
    kind, cost = worth[0]
    others = ", ".join(f"{kind} {100 * cost:.1f}" for kind, cost in worth[1:3])
    after = f"; then come {others}" if others else ""
    return (
        f"The costliest kind of error is {kind} ({MEANING[kind]}): without it AP50 would be "
        f"{100 * cost:.1f} points higher{after}."
    )


def _extremes(diagnosis: Diagnosis) -> Iterator[str]:
    known = sorted((each for each in diagnosis.classes if each.AP >= 0), key=lambda each: each.AP)
    if len(known) > 1 and known[-1].AP - known[0].AP >= _SPREAD:
        yield (
            f"{known[0].name} is the weakest class (AP {100 * known[0].AP:.1f}), "
            f"{known[-1].name} the strongest ({100 * known[-1].AP:.1f})."
        )
    sizes = sorted(
        ((size, each) for size, each in diagnosis.sizes.items() if each.AP >= 0),
        key=lambda item: item[1].AP,
    )
    if len(sizes) > 1 and sizes[-1][1].AP - sizes[0][1].AP >= _SPREAD:
        (worst, low), (best, high) = sizes[0], sizes[-1]
        yield (
            f"{worst.capitalize()} objects are the hardest (AP {100 * low.AP:.1f}, "
            f"{low.boxes:,} of them), {best} ones the easiest ({100 * high.AP:.1f})."
        )


def _scores(diagnosis: Diagnosis) -> str:
    bins = diagnosis.calibration.bins
    total = max(sum(each.count for each in bins), 1)
    score = sum(each.count * each.score for each in bins) / total
    right = sum(each.count * each.right for each in bins) / total
    error = diagnosis.calibration.error
    if error < 0.05:
        return f"Scores can be read as probabilities: they are off by {100 * error:.0f} points."
    way = "high" if score > right else "low"
    return (
        f"Scores are too {way} to be read as probabilities, by {100 * error:.0f} points on "
        f"average; the thresholds below take care of that."
    )


def _layers(diagnosis: Diagnosis) -> Iterator[str]:
    if len(diagnosis.layers) < 2:
        return
    first, last = diagnosis.layers[0], diagnosis.layers[-1]
    yield (
        f"The first of {len(diagnosis.layers)} decoder layers reaches AP {100 * first.AP:.1f}, the "
        f"last {100 * last.AP:.1f}. Suppressing doubles (NMS) changes the first by "
        f"{100 * (first.AP_with_nms - first.AP):+.1f}, the last by "
        f"{100 * (last.AP_with_nms - last.AP):+.1f}."
    )


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
