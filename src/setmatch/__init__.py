"""Detection transformers, trained by matching sets of predictions to sets of objects.

The names below are the whole public interface. Each is imported when it is first used, so that
`import setmatch` costs nothing and `setmatch --help` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from setmatch.config import Recipe as Recipe
    from setmatch.config import load_recipe as load_recipe
    from setmatch.errors import SetmatchError as SetmatchError
    from setmatch.evaluation.evaluate import evaluate as evaluate
    from setmatch.explanation.explain import explain as explain
    from setmatch.inference.predict import predict as predict
    from setmatch.models.load import convert_weights as convert_weights
    from setmatch.models.load import load as load
    from setmatch.models.load import save as save
    from setmatch.structures.batch import Batch as Batch
    from setmatch.structures.batch import Target as Target
    from setmatch.structures.detections import Detections as Detections
    from setmatch.structures.metadata import Categories as Categories
    from setmatch.structures.outputs import PredictionGroup as PredictionGroup
    from setmatch.structures.outputs import Predictions as Predictions
    from setmatch.training.train import train as train

    __version__: str

_HOMES = {
    "Batch": "setmatch.structures.batch",
    "Categories": "setmatch.structures.metadata",
    "Detections": "setmatch.structures.detections",
    "Predictions": "setmatch.structures.outputs",
    "Recipe": "setmatch.config",
    "SetmatchError": "setmatch.errors",
    "PredictionGroup": "setmatch.structures.outputs",
    "Target": "setmatch.structures.batch",
    "convert_weights": "setmatch.models.load",
    "evaluate": "setmatch.evaluation.evaluate",
    "explain": "setmatch.explanation.explain",
    "load": "setmatch.models.load",
    "load_recipe": "setmatch.config",
    "predict": "setmatch.inference.predict",
    "save": "setmatch.models.load",
    "train": "setmatch.training.train",
}

__all__ = [
    "Batch",
    "Categories",
    "Detections",
    "PredictionGroup",
    "Predictions",
    "Recipe",
    "SetmatchError",
    "Target",
    "__version__",
    "convert_weights",
    "evaluate",
    "explain",
    "load",
    "load_recipe",
    "predict",
    "save",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("setmatch")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'setmatch' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
