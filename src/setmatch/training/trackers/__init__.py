"""Trackers of experiments by name: TensorBoard, Weights & Biases, MLflow and trackio."""

from collections.abc import Sequence

from setmatch.errors import ConfigError, ExtraMissingError, suggest
from setmatch.training.callbacks import Callback
from setmatch.training.trackers.mlflow import MLflow
from setmatch.training.trackers.tensorboard import TensorBoard
from setmatch.training.trackers.trackio import Trackio
from setmatch.training.trackers.wandb import WeightsAndBiases
from setmatch.usage_reports import turn_off_reports

# Making one imports its library.
TRACKERS: dict[str, type[Callback]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def make_callbacks(callbacks: Sequence[Callback | str]) -> list[Callback]:
    """Return callbacks, with a tracker for each name.

    Raises ConfigError for an unknown tracker or what is not a callback; ExtraMissingError if the
    library of a tracker is not installed.
    """
    if isinstance(callbacks, str):
        raise ConfigError(f"callbacks: {callbacks!r} is one name; pass a list: [{callbacks!r}]")
    return [_tracker(each) if isinstance(each, str) else _own(each) for each in callbacks]


def _tracker(name: str) -> Callback:
    if name not in TRACKERS:
        raise ConfigError(f"no tracker is named {name!r}; {suggest(name, TRACKERS)}")
    turn_off_reports(name)
    try:
        return TRACKERS[name]()
    except ImportError as error:
        raise ExtraMissingError(
            f"--log {name} needs {name} ({error}); install it with: pip install 'setmatch[{name}]'"
        ) from error


def _own(callback: object) -> Callback:
    if not isinstance(callback, Callback):
        raise ConfigError(
            f"callbacks: {type(callback).__name__} is not a callback; derive its class from "
            "setmatch.training.callbacks.Callback, and pass an object of it"
        )
    return callback
