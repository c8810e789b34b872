"""The length of a run that fits the number of training images."""

import math

FINE_TUNING_STEPS = 3000
FEWEST, MOST = 12, 300
EVALUATIONS = 30


def epochs_for(images: int, batch_size: int, steps: int = FINE_TUNING_STEPS) -> int:
    """Return the epochs that make `steps` optimizer steps, in 12..300.

    Few images would otherwise be repeated without end, and many would not be seen often enough.
    """
    return min(max(math.ceil(steps * batch_size / max(images, 1)), FEWEST), MOST)


def epochs_per_evaluation(epochs: int) -> int:
    """Return how many epochs lie between evaluations, of which a run has about 30."""
    return max(epochs // EVALUATIONS, 1)
