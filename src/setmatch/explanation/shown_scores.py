"""The scores that explanations show: above one threshold, or above that of each class."""

from setmatch.inference.options import ScoreThreshold, Thresholds, shown_scores
from setmatch.structures.detection_checks import require_score

ShownScores = float | tuple[float, ...]  # of all classes, or of each
BEST_OF_CLASS = "the best threshold of its class"


def checked_scores(function: str, model: Thresholds, threshold: ScoreThreshold) -> ShownScores:
    """Return the thresholds of `shown_scores`; raises ConfigError also for one out of range."""
    scores = shown_scores(model, threshold)
    if not isinstance(scores, tuple):
        require_score(function, "threshold", scores)
    return scores


def in_words(scores: ShownScores, form: str = "g") -> str:
    """Return what a detection scores above, a number in the given format."""
    return BEST_OF_CLASS if isinstance(scores, tuple) else format(scores, form)
