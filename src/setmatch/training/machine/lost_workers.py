"""The death of a process that loads images, said with advice: torch reports it wherever it is."""

from collections.abc import Iterator
from contextlib import contextmanager

from setmatch.errors import TrainingError


@contextmanager
def explain_lost_workers(*signs: type[Exception]) -> Iterator[None]:
    """Turn the death of a data-loading process into a TrainingError with advice.

    Errors of the types `signs` mean it, too.
    """
    caught: tuple[type[Exception], ...] = (RuntimeError, *signs)
    try:
        yield
    except caught as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            f"a data-loading process died ({' '.join(str(error).split())}), often because memory "
            "ran out; set data.workers lower and continue with --resume"
        ) from error
