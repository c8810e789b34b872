"""Summarize a diagnosis in sentences: what stands out, and what it means."""

from collections.abc import Iterator

from setmatch.errors import quoted
from setmatch.evaluation.metrics.diagnosis import Diagnosis

MEANING = {
    "classification": "well placed, but the wrong class",
    "localization": "right class, but a loose box (IoU 0.1 to 0.5)",
    "both": "wrong class and badly placed",
    "duplicate": "a better detection already matched the object",
    "background": "nothing annotated is there",
    "missed": "an object without any detection near it",
}
_MIN_COST = 0.005  # of AP: half a point
_MIN_SPREAD = 0.1


def sentences(diagnosis: Diagnosis, unknown: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what stands out, most important first; `unknown` are classes the model lacks."""
    has_errors = any(error.count for kind, error in diagnosis.errors.items() if kind != "missed")
    if not has_errors and not diagnosis.true_positives:
        yield "The model detected nothing at all: there is not a single detection to evaluate."
        return
    yield _overall(diagnosis)
    yield _errors(diagnosis)
    if unknown:
        missed = sum(each.boxes for each in diagnosis.classes if each.name in unknown)
        yield (
            f"The model does not know {quoted(unknown, 5)}: all {missed:,} objects of "
            f"{'this class' if len(unknown) == 1 else 'these classes'} count as missed."
        )
    yield from _extremes(diagnosis)
    yield _scores(diagnosis)
    yield from _layers(diagnosis)


def _overall(diagnosis: Diagnosis) -> str:
    right, shown = diagnosis.true_positives, diagnosis.true_positives + diagnosis.false_positives
    if not shown:
        return "No detection is right at IoU 0.5, so no threshold gives useful detections."
    return (
        f"At the best threshold of each class, recall is {right / diagnosis.objects:.0%} "
        f"({right:,} of {diagnosis.objects:,} objects are found) and precision is "
        f"{right / shown:.0%}."
    )


def _errors(diagnosis: Diagnosis) -> str:
    costs = sorted(diagnosis.errors.items(), key=lambda item: -item[1].lost_AP50)
    costly = [(kind, error.lost_AP50) for kind, error in costs if error.lost_AP50 >= _MIN_COST]
    if not costly:
        return "No single kind of error costs more than half a point of AP50."
    kind, cost = costly[0]
    others = " and ".join(f"{kind} ({100 * cost:.1f})" for kind, cost in costly[1:3])
    following = f" Next: {others}." if others else ""
    return (
        f"The costliest kind of error is {kind} ({MEANING[kind]}): AP50 would be "
        f"{100 * cost:.1f} points higher without it.{following}"
    )


def _extremes(diagnosis: Diagnosis) -> Iterator[str]:
    known = sorted((each for each in diagnosis.classes if each.AP >= 0), key=lambda each: each.AP)
    if len(known) > 1 and known[-1].AP - known[0].AP >= _MIN_SPREAD:
        yield (
            f"{known[0].name!r} is the weakest class (AP {100 * known[0].AP:.1f}), "
            f"{known[-1].name!r} the strongest ({100 * known[-1].AP:.1f})."
        )
    sizes = sorted(
        ((size, each) for size, each in diagnosis.sizes.items() if each.AP >= 0),
        key=lambda item: item[1].AP,
    )
    if len(sizes) > 1 and sizes[-1][1].AP - sizes[0][1].AP >= _MIN_SPREAD:
        (worst, low), (best, high) = sizes[0], sizes[-1]
        yield (
            f"{worst.capitalize()} objects are the hardest (AP {100 * low.AP:.1f} on "
            f"{low.boxes:,} objects), {best} ones the easiest ({100 * high.AP:.1f})."
        )


def _scores(diagnosis: Diagnosis) -> str:
    bins = diagnosis.calibration.bins
    total = max(sum(each.count for each in bins), 1)
    score = sum(each.count * each.score for each in bins) / total
    right = sum(each.count * each.right for each in bins) / total
    error = diagnosis.calibration.error
    if error < 0.05:
        return f"Scores are calibrated: they are off by {100 * error:.0f} points on average."
    direction = "high" if score > right else "low"
    return (
        f"Scores are too {direction} to be read as probabilities, by {100 * error:.0f} points on "
        "average. The thresholds below account for that."
    )


def _layers(diagnosis: Diagnosis) -> Iterator[str]:
    if len(diagnosis.layers) < 2:
        return
    first, last = diagnosis.layers[0], diagnosis.layers[-1]
    yield (
        f"The first of {len(diagnosis.layers)} decoder layers reaches AP {100 * first.AP:.1f}, the "
        f"last {100 * last.AP:.1f}. Suppressing duplicates with NMS changes the first by "
        f"{100 * (first.AP_with_nms - first.AP):+.1f} points, the last by "
        f"{100 * (last.AP_with_nms - last.AP):+.1f}."
    )
